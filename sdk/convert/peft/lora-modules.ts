import type { BaseSites } from '@graft/sdk/format/base-sites.ts'
import { equalBytes } from '@graft/sdk/format/byte-source.ts'
import { type ErrorCode, expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { LowRank, Magnitude } from '@graft/sdk/format/operations.ts'
import { readTensor } from '@graft/sdk/format/tensor-source.ts'
import { type Collector, resolveSite } from '../compiled.ts'
import { transposed } from '../transpose.ts'
import type { LoraSettings } from './lora-settings.ts'

export type LoraPart = 'A' | 'B' | 'Bbias' | 'm' | 'embeddingA' | 'embeddingB'
export type LoraKeys = Partial<Record<LoraPart, string>>

export const LORA_PARTS: readonly (readonly [RegExp, LoraPart])[] = [
  [/^(.+)\.lora_A\.weight$/, 'A'],
  [/^(.+)\.lora_B\.weight$/, 'B'],
  [/^(.+)\.lora_B\.bias$/, 'Bbias'],
  [/^(.+)\.lora_magnitude_vector(?:\.weight)?$/, 'm'],
  [/^(.+)\.lora_embedding_A$/, 'embeddingA'],
  [/^(.+)\.lora_embedding_B$/, 'embeddingB'],
]

export interface LoraContext {
  collector: Collector
  sites: BaseSites
  settings: LoraSettings
}

const refuse = (code: ErrorCode, message: string): never => {
  throw new GraftError(code, message)
}

/** Both factors' shapes. @throws ERR_TENSOR_MISSING */
export function factorShapes(
  { collector }: LoraContext,
  path: string,
  [keyA, keyB]: readonly [string | undefined, string | undefined],
): { a: number[]; b: number[] } {
  const a = collector.peek(keyA ?? '')?.shape
  const b = collector.peek(keyB ?? '')?.shape
  if (a !== undefined && b !== undefined) return { a, b }
  return refuse(
    'ERR_TENSOR_MISSING',
    `module ${path} has lora_${a ? 'A' : 'B'} but no lora_${a ? 'B' : 'A'}`,
  )
}

/** @throws ERR_TENSOR_SHAPE */
export function checkFactors(
  path: string,
  rank: number,
  got: { ranks: readonly (number | undefined)[]; in: number | undefined; out: number | undefined },
  want: { in: number; out: number },
): void {
  if (got.ranks[0] !== rank || got.ranks[1] !== rank)
    refuse(
      'ERR_TENSOR_SHAPE',
      `${expected(`${path}: rank`, `${rank} as the config says`, got.ranks)}; config and weights are of two adapters`,
    )
  if (got.in !== want.in || got.out !== want.out)
    refuse(
      'ERR_TENSOR_SHAPE',
      `${expected(path, `${want.in} -> ${want.out} as in the base`, `${got.in} -> ${got.out}`)}; the adapter was trained on another base`,
    )
}

function checkParts({ dora, loraBias }: LoraSettings, path: string, keys: LoraKeys): void {
  if (dora !== (keys.m !== undefined) || (dora && loraBias))
    refuse(
      dora ? 'ERR_TENSOR_MISSING' : 'ERR_TENSOR_UNMATCHED',
      `${path}: use_dora is ${dora} and lora_magnitude_vector is ${keys.m ? 'present' : 'absent'}`,
    )
  if (loraBias !== (keys.Bbias !== undefined))
    refuse(
      loraBias ? 'ERR_TENSOR_MISSING' : 'ERR_TENSOR_UNMATCHED',
      `${path}: lora_bias is ${loraBias} and lora_B.bias is ${keys.Bbias ? 'present' : 'absent'}`,
    )
}

/** What takes a low rank update at a site: its sizes, and the kernel of a convolution. */
function placeOf(
  sites: BaseSites,
  site: string,
): { in: number; out: number; kernel?: number[] } | null {
  const linear = sites.linear(site)
  if (linear !== null) return { in: linear.in, out: linear.out }
  const [out, inside, ...kernel] = sites.shape(`${site}.weight`) ?? []
  if (out === undefined || inside === undefined || kernel.length === 0) return null
  return { in: inside, out, kernel }
}

/**
 * LoRA, rsLoRA or DoRA of a linear layer (also one whose weight lies transposed) or a convolution.
 * @param pattern the path that rank_pattern and alpha_pattern are matched against
 * @throws ERR_TENSOR_*, ERR_METHOD_UNSUPPORTED
 */
export function compileModule(
  context: LoraContext,
  path: string,
  keys: LoraKeys,
  pattern: string = path,
): LowRank | Magnitude {
  const { collector, sites, settings } = context
  const site = resolveSite(sites, path, Object.values(keys)[0]!)
  const { a, b } = factorShapes(context, path, [keys.A, keys.B])
  const place = placeOf(sites, site)
  if (place === null || a.length !== b.length || a.length !== 2 + (place.kernel?.length ?? 0))
    return refuse(
      'ERR_METHOD_UNSUPPORTED',
      `${path} is not a linear layer (lora_A [${a}], lora_B [${b}]); only linear layers, convolutions and embeddings take low rank updates`,
    )
  const rank = settings.rankOf(pattern)
  checkFactors(path, rank, { ranks: [a[0], b[1]], in: a[1], out: b[0] }, place)
  if (a.slice(2).join() !== (place.kernel ?? []).join() || b.slice(2).some((size) => size !== 1))
    refuse(
      'ERR_TENSOR_SHAPE',
      expected(`${path}: lora_A, lora_B`, `of kernels [${place.kernel}] and 1`, [a, b]),
    )
  checkParts(settings, path, keys)
  const { in: inside, out, kernel } = place
  const scale = settings.scaleOf(pattern, rank)
  if (keys.m !== undefined && kernel !== undefined)
    refuse(
      'ERR_METHOD_UNSUPPORTED',
      `${path}: DoRA of a convolution is not supported; train it with use_dora=False, or merge it`,
    )
  const A = collector.take(keys.A!, site, 'lora.A')
  const B = collector.take(keys.B!, site, 'lora.B')
  const shared = { site, in: inside, out, rank, scale }
  if (keys.m !== undefined) {
    const m = collector.take(keys.m, site, 'lora.mag', [out])
    return { op: 'magnitude', ...shared, slots: { A, B, m } }
  }
  const Bbias = keys.Bbias && collector.take(keys.Bbias, site, 'lora.Bbias')
  return {
    op: 'low_rank',
    ...shared,
    ...(kernel === undefined ? {} : { kernel }),
    slots: { A, B, ...(Bbias === undefined ? {} : { Bbias }) },
  }
}

/** LoRA of an embedding, a linear layer of one-hot rows: A [rank, vocabulary], B [width, rank]. @throws as compileModule */
export function compileEmbedding(context: LoraContext, path: string, keys: LoraKeys): LowRank {
  const { collector, sites, settings } = context
  const { embeddingA, embeddingB, m } = keys
  const site = resolveSite(sites, path, Object.values(keys)[0]!)
  const place = sites.embedding(site)
  if (place === null)
    return refuse(
      'ERR_METHOD_UNSUPPORTED',
      `${path} has lora_embedding_A and is not the base's token embedding; adapt that one, or linear layers`,
    )
  if (m !== undefined)
    refuse(
      'ERR_METHOD_UNSUPPORTED',
      `${path}: DoRA of an embedding is not supported; train it with use_dora=False, its rows with trainable_token_indices, or the whole with modules_to_save`,
    )
  const { a, b } = factorShapes(context, path, [embeddingA, embeddingB])
  const rank = settings.rankOf(path)
  checkFactors(path, rank, { ranks: [a[0], b[1]], in: a[1], out: b[0] }, place)
  const A = collector.take(embeddingA!, site, 'lora.A')
  const B = collector.take(embeddingB!, site, 'lora.B')
  const scale = settings.scaleOf(path, rank)
  return { op: 'low_rank', site, in: place.in, out: place.out, rank, scale, slots: { A, B } }
}

/**
 * ensure_weight_tying: the tied head's factors are the embedding's, transposed and exchanged. PEFT loads both into one
 * storage, so a file where they differ has no one meaning.
 * @throws ERR_TENSOR_UNMATCHED
 */
export async function checkTied(
  { collector }: LoraContext,
  embedding: LoraKeys,
  head: LoraKeys,
): Promise<void> {
  for (const [own, of] of [
    [head.A, embedding.embeddingB],
    [head.B, embedding.embeddingA],
  ] as const) {
    const [tensor, source] = [collector.peek(own ?? ''), collector.peek(of ?? '')]
    if (tensor === null || source === null) continue
    const [{ data }, { data: want }] = [
      await readTensor(tensor),
      await readTensor(transposed(source)),
    ]
    if (!equalBytes(data, want))
      refuse(
        'ERR_TENSOR_UNMATCHED',
        `${own} must be ${of} transposed, as ensure_weight_tying ties them; save the adapter again with PEFT`,
      )
  }
}
