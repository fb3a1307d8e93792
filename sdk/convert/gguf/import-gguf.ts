import { type BaseSites, createBaseSites, type LinearSite } from '@graft/sdk/format/base-sites.ts'
import { encodeBase64 } from '@graft/sdk/format/base64url.ts'
import { type ByteSource, readAll, readRange } from '@graft/sdk/format/byte-source.ts'
import { isDecimal, toDecimal } from '@graft/sdk/format/decimal.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { LiteralTensor } from '@graft/sdk/format/manifest.ts'
import type { LowRank } from '@graft/sdk/format/operations.ts'
import type { TensorSource } from '@graft/sdk/format/tensor-source.ts'
import { blockTransform, cutBlock } from '../blocks.ts'
import { type Collector, type Compiled, createCollector, resolveSite } from '../compiled.ts'
import type { Detected, ImportBase, SourceFiles } from '../source-format.ts'
import { transposed } from '../transpose.ts'
import type { Architecture } from './architectures.ts'
import { alphaOf, architectureKey, checkIsAdapter, checkKeys } from './metadata-keys.ts'
import { architectureNamed, explainTensor, pathOf, type Role } from './names.ts'
import { checkPadding, readGgufHeader, tensorOf } from './open-gguf.ts'
import { strayBlocks, strayKey } from './q8-0.ts'
import type { GgufHeader } from './read-header.ts'
import { fileToCheckpoint, headsAt } from './row-order.ts'

const PART = /^(.+)\.lora_([ab])$/
/** A norm that mergekit-extract-lora put beside its factors. */
const NORM = /_norm\.weight$/

/** Names of llama.cpp's tensors that have a lora_a or lora_b. @throws ERR_TENSOR_UNMATCHED, ERR_TENSOR_MISSING */
function pairedTensors(keys: readonly string[]): string[] {
  const parts = new Map<string, Set<string>>()
  for (const key of keys) {
    const [, tensor, part] = PART.exec(key) ?? []
    if (tensor !== undefined) parts.set(tensor, (parts.get(tensor) ?? new Set()).add(part!))
    else if (!NORM.test(key))
      throw new GraftError(
        'ERR_TENSOR_UNMATCHED',
        `GGUF: ${expected(`tensor ${key}`, 'to end in .lora_a or .lora_b', key)}`,
      )
  }
  for (const [tensor, found] of parts)
    if (found.size < 2) {
      const absent = found.has('a') ? 'lora_b' : 'lora_a'
      throw new GraftError('ERR_TENSOR_MISSING', `GGUF: tensor ${tensor}.${absent} is absent`)
    }
  return [...parts.keys()]
}

const two = (tensor: TensorSource, key: string): [number, number] => {
  if (tensor.shape.length === 2) return tensor.shape as [number, number]
  throw new GraftError(
    'ERR_METHOD_UNSUPPORTED',
    `GGUF: ${expected(`tensor ${key}`, 'of two dimensions; stacked experts are not imported', tensor.shape)}`,
  )
}

function checkShape(
  key: string,
  got: readonly number[],
  want: readonly number[],
  why: string,
): void {
  if (got.join() !== want.join())
    throw new GraftError(
      'ERR_TENSOR_SHAPE',
      `GGUF: ${expected(key, `[${want}] for this base`, got)}; ${why}`,
    )
}

function siteAt(
  sites: BaseSites,
  architecture: Architecture,
  tensor: string,
): { linear: LinearSite; role: Role } {
  const found = pathOf(architecture, tensor)
  if (found === null)
    throw new GraftError(
      'ERR_TENSOR_UNMATCHED',
      `GGUF: tensor ${tensor} of a ${architecture.name} base is not known: ${explainTensor(tensor)}`,
    )
  const site = resolveSite(sites, found.path, tensor)
  const linear = found.role === 'embedding' ? sites.embedding(site) : sites.linear(site)
  if (linear !== null) return { linear, role: found.role }
  throw new GraftError('ERR_TENSOR_UNMATCHED', `GGUF: ${site} is no linear layer of the base`)
}

/** One update. A and B keep the file's values; only B's rows, or an embedding's A, change their order. */
function compileModule(
  collector: Collector,
  tensor: string,
  { linear, role }: { linear: LinearSite; role: Role },
  heads: number | null,
  alpha: number,
): LowRank {
  const [keyA, keyB] = [`${tensor}.lora_a`, `${tensor}.lora_b`]
  const [a, b] = [collector.peek(keyA)!, collector.peek(keyB)!]
  const { path: site, in: inside, out } = linear
  const [, rank] = two(b, keyB)
  two(a, keyA)
  // llama.cpp's converter does this to GPT-2, whose weights it transposes; llama.cpp refuses the file too.
  const turned = a.shape[1] === out && b.shape[0] === inside
  const why = turned
    ? 'its factors are turned over, as the converter leaves them for Conv1D bases: import the PEFT folder that it was made of'
    : 'the adapter was made for another base'
  checkShape(keyB, b.shape, [out, rank], why)
  checkShape(keyA, a.shape, role === 'embedding' ? [inside, rank] : [rank, inside], why)
  const scale = toDecimal(alpha === 0 ? 1 : alpha / rank)
  if (!isDecimal(scale))
    throw new GraftError(
      'ERR_CONFIG_INVALID',
      expected('GGUF: adapter.lora.alpha', 'of a usual magnitude', alpha),
    )
  // Embeddings are looked up by row, so the converter turns lora_a over.
  const A =
    role === 'embedding'
      ? collector.add(keyA, site, 'lora.A', transposed(a), 'transpose')
      : collector.take(keyA, site, 'lora.A')
  let B: string
  if (heads === null) B = collector.take(keyB, site, 'lora.B')
  else {
    const block = fileToCheckpoint(b.shape, heads, keyB)
    const rows = cutBlock(b, block, b.shape)
    B = collector.add(keyB, site, 'lora.B', rows, blockTransform(block, b.shape))
  }
  return { op: 'low_rank', site, in: inside, out, rank, scale, slots: { A, B } }
}

/** Norms do nothing and are kept in the manifest: what they may weigh together. */
const MAX_NORM_BYTES = 1024 * 1024

/** @throws ERR_TENSOR_SHAPE, ERR_METHOD_UNSUPPORTED */
async function normLiterals(collector: Collector): Promise<LiteralTensor[]> {
  const literals: LiteralTensor[] = []
  let total = 0
  for (const key of collector.keys) {
    if (!NORM.test(key)) continue
    const { dtype, shape, data } = collector.use(key)
    if (shape.length !== 1)
      throw new GraftError(
        'ERR_TENSOR_SHAPE',
        `GGUF: ${expected(key, 'a norm of one axis', shape)}`,
      )
    total += data.size
    if (total > MAX_NORM_BYTES)
      throw new GraftError(
        'ERR_METHOD_UNSUPPORTED',
        `GGUF: its norms, of which ${key} is one, take more than ${MAX_NORM_BYTES} bytes and llama.cpp does not apply them; convert the adapter again without them`,
      )
    literals.push({ key, dtype, shape, data: encodeBase64(await readAll(data)) })
  }
  return literals
}

/** Beyond this the blocks are another quantiser's, and keeping them beside their values would double the adapter. */
const MAX_STRAY_BYTES = 64 * 1024

/** Q8_0 blocks that their values do not lead back to. @throws ERR_METHOD_UNSUPPORTED for more than a few */
async function strayLiterals(source: ByteSource, header: GgufHeader): Promise<LiteralTensor[]> {
  const literals: LiteralTensor[] = []
  let total = 0
  for (const { name, type, begin, end } of header.tensors) {
    if (type.name !== 'Q8_0') continue
    const { dataStart } = header
    const rows = strayBlocks(await readRange(source, dataStart + begin, dataStart + end))
    if (rows.length === 0) continue
    total += rows.length
    if (total > MAX_STRAY_BYTES)
      throw new GraftError(
        'ERR_METHOD_UNSUPPORTED',
        `GGUF: ${expected(`tensor ${name}`, "quantised as llama.cpp's own converter does it", 'other blocks')}; convert the adapter again with --outtype f32`,
      )
    literals.push({
      key: strayKey(name),
      dtype: 'U8',
      shape: [rows.length],
      data: encodeBase64(rows),
    })
  }
  return literals
}

/**
 * A LoRA in llama.cpp's own format. What it computes is what llama.cpp does with it (src/llama-adapter.cpp), so norms of
 * mergekit, which llama.cpp leaves out, are kept for the way back and change nothing; the flag says so.
 * @throws ERR_SOURCE_UNKNOWN, ERR_METHOD_UNSUPPORTED, ERR_CONFIG_INVALID, ERR_CONFIG_UNKNOWN_KEY, ERR_BASE_MISMATCH,
 *   ERR_ARCHITECTURE_UNSUPPORTED, ERR_TENSOR_*, ERR_REQUEST_INVALID without the base's config.json
 */
export async function importGguf(
  { weightsPath: path }: Detected,
  files: SourceFiles,
  base: ImportBase,
): Promise<Compiled> {
  const source = files.get(path)!
  const { header, bytes } = await readGgufHeader(source)
  const { metadata } = header
  checkIsAdapter(path, metadata, header.tensors.length)
  const inert = checkKeys(path, metadata)
  const { modelType } = base.identity
  const architecture = architectureNamed(architectureKey(path, metadata), modelType)
  await checkPadding(source, header)
  const collector = createCollector(
    new Map(header.tensors.map((tensor) => [tensor.name, tensorOf(source, header, tensor)])),
  )
  const sites = createBaseSites(base.tensors, modelType)
  const alpha = alphaOf(metadata)
  const operations = pairedTensors(collector.keys).map((tensor) => {
    const heads = architecture.turnsRows ? headsAt(tensor, base.config) : null
    return compileModule(collector, tensor, siteAt(sites, architecture, tensor), heads, alpha)
  })
  const literals = await normLiterals(collector)
  collector.assertAllTaken('')
  const norms = literals.length
  literals.push(...(await strayLiterals(source, header)))
  const end = header.dataStart + (header.tensors.at(-1)?.end ?? 0)
  const unpadded = source.size === end && end % header.alignment !== 0
  return {
    family: 'lora',
    flags: [
      ...(alpha === 0 ? ['no_alpha'] : []),
      ...(norms > 0 ? ['norms_not_applied'] : []),
      ...(header.tensors.some(({ type }) => type.name === 'Q8_0') ? ['dequantised'] : []),
    ],
    operations,
    tensors: collector.tensors,
    origin: {
      toolVersion: null,
      config: '',
      keyMap: collector.keyMap,
      // Converters pad the last tensor too; a file that ends with its bytes says so here.
      metadata: unpadded ? { end: 'unpadded' } : {},
      header: encodeBase64(bytes),
      ...(literals.length > 0 ? { literals } : {}),
    },
    inert,
    training: alpha === 0 ? {} : { lora_alpha: alpha },
  }
}
