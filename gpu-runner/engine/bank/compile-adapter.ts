import { setImmediate as breathe } from 'node:timers/promises'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { Operation } from '@graft/sdk/format/operations.ts'
import type { ModelConfig } from '../../checkpoint/model-config.ts'
import type { Checkpoint } from '../../checkpoint/read-checkpoint.ts'
import { withExactFactors } from '../dense-values.ts'
import type { LoadedAdapter } from '../engine.ts'
import { bottleneckKeys } from '../graph/bottleneck-keys.ts'
import { type GroupKind, linearGroups } from '../graph/linear-groups.ts'
import { transpose } from '../graph/linear-weights.ts'
import { PAGE_RANK } from '../graph/low-rank-pages.ts'
import { vectorsName } from '../graph/row-vectors.ts'
import { linearSites } from '../graph/sites.ts'
import { widest } from '../graph/variants.ts'
import { assertOneLinear, lowRankFactors } from '../low-rank-factors.ts'
import { placedKeys } from '../prefix-keys.ts'
import { isComposable, mergedOnly, needsWholePrompt } from '../rules.ts'
import { addBottleneck } from './compile-bottleneck.ts'
import { addReplace } from './compile-replace.ts'
import { compileShifts } from './compile-shifts.ts'
import type { CompiledAdapter } from './compiled-adapter.ts'
import { type LowRankFactors, packPages, pageTables } from './low-rank-pages.ts'
import { hasOwnTensors, noOwnTensors, ownBytes } from './own-tensors.ts'
import { plainBottleneck } from './plain-bottleneck.ts'
import { type BankPrecision, storedBytes } from './stored-table.ts'
import { weightNorms } from './weight-norms.ts'

const unsupported = (message: string): GraftError =>
  new GraftError('ERR_OPERATION_UNSUPPORTED', message)

/** A tensor of the adapter by the name its operation gives. @throws ERR_TENSOR_MISSING, ERR_TENSOR_SHAPE */
export type Take = (name: string, shape: number[]) => Float32Array

function taker(adapter: LoadedAdapter): Take {
  return (name, shape) => {
    const tensor = adapter.tensors.get(name)
    if (!tensor)
      throw new GraftError(
        'ERR_TENSOR_MISSING',
        `the tensor ${name} of ${adapter.digest} is missing`,
      )
    if (tensor.shape.join() !== shape.join())
      throw new GraftError(
        'ERR_TENSOR_SHAPE',
        expected(`shape of ${name}`, `[${shape}]`, tensor.shape),
      )
    return tensor.data
  }
}

/** Turns operations into rows of the bank. Lets the event loop breathe between sites: DoRA reads whole matrices. */
export async function compileAdapter(
  source: LoadedAdapter,
  checkpoint: Checkpoint,
  precision: BankPrecision = 'fp32',
): Promise<CompiledAdapter> {
  const adapter = withExactFactors(source, taker(source))
  const compiled: CompiledAdapter = {
    digest: adapter.digest,
    variant: 'base',
    composable: isComposable(adapter.operations),
    pages: new Map(),
    outVectors: new Map(),
    inVectors: new Map(),
    vectorsAt: new Set(),
    bottleneck: null,
    plainBottleneck: null,
    prefix: [],
    prompt: null,
    head: null,
    embeddings: null,
    own: noOwnTensors(),
    wholePrompt: needsWholePrompt(adapter.operations),
    bytes: 0,
  }
  const sites = new Map(linearSites(checkpoint.config).map((site) => [site.path, site]))
  const take = taker(adapter)
  const factors = new Map<string, LowRankFactors>()
  for (const operation of adapter.operations) {
    addOperation(compiled, factors, operation, take, checkpoint, sites)
    await breathe()
  }
  if (compiled.bottleneck) {
    compiled.plainBottleneck = plainBottleneck(compiled.bottleneck, checkpoint.config)
    if (compiled.plainBottleneck) compiled.bottleneck = null
    else compiled.variant = widest([compiled.variant, 'full'])
  }
  const groups = linearGroups(checkpoint.config)
  compiled.pages = await packPages(groups, factors, precision)
  for (const { kind, parts } of groups)
    for (const { path } of parts) {
      if (compiled.inVectors.has(path)) compiled.vectorsAt.add(vectorsName(kind, 'in'))
      if (compiled.outVectors.has(path)) compiled.vectorsAt.add(vectorsName(kind, 'out'))
    }
  const alone = new Set(groups.flatMap(({ parts }) => (parts.length === 1 ? parts[0]!.path : [])))
  if ([...compiled.inVectors.keys()].some((path) => !alone.has(path)))
    compiled.variant = widest([compiled.variant, 'full'])
  compiled.own.shifts = compileShifts(adapter.operations, take, checkpoint)
  if (hasOwnTensors(compiled.own)) compiled.variant = widest([compiled.variant, 'full'])
  assertOneWeight(compiled, adapter.operations)
  assertWholePrefix(compiled, checkpoint.config.layers)
  compiled.bytes = bytesOf(compiled) + activeBytes(compiled, checkpoint.config)
  return compiled
}

function setOnce(vectors: Map<string, Float32Array>, site: string, vector: Float32Array): void {
  if (vectors.has(site)) throw unsupported(`${site} has two factors on one side`)
  vectors.set(site, vector)
}

/** DoRA divides by the norms of the base's weight, which a replaced weight has not. */
function assertOneWeight({ own }: CompiledAdapter, operations: Operation[]): void {
  const both = operations.find(({ op, site }) => op === 'magnitude' && own.linears.has(site))
  if (both) throw unsupported(`${both.site} has a magnitude and a weight of its own`)
}

/** A layer without its rows would attend to what the slot's last owner left at these positions. */
function assertWholePrefix({ digest, prefix }: CompiledAdapter, layers: number): void {
  if (prefix.length === 0) return
  const covered = new Set(prefix.map(({ layer }) => layer)).size
  const lengths = new Set(prefix.map(({ tokens }) => tokens)).size
  if (covered !== layers || prefix.length !== layers || lengths !== 1)
    throw unsupported(
      expected(
        `prefix of ${digest}`,
        `one of equal length in each of ${layers} layers`,
        `${prefix.length} in ${covered} layers, ${lengths} lengths`,
      ),
    )
}

function addOperation(
  compiled: CompiledAdapter,
  factors: Map<string, LowRankFactors>,
  operation: Operation,
  take: Take,
  checkpoint: Checkpoint,
  sites: Map<string, { in: number; out: number }>,
): void {
  const { hidden, layers, kvHeads, headDim } = checkpoint.config
  const need = (variant: CompiledAdapter['variant']) => {
    compiled.variant = widest([compiled.variant, variant])
  }
  const linearSite = (): { in: number; out: number } => {
    const site = sites.get(operation.site)
    if (!site)
      throw unsupported(
        `${operation.op} at ${operation.site}: this engine adapts the linears of the blocks only`,
      )
    return site
  }
  switch (operation.op) {
    case 'low_rank':
    case 'magnitude': {
      assertOneLinear(operation, sites)
      const site = linearSite()
      const { rank } = operation
      if (operation.in !== site.in || operation.out !== site.out)
        throw new GraftError(
          'ERR_TENSOR_SHAPE',
          expected(`${operation.site}: [out, in]`, `[${site.out},${site.in}]`, [
            operation.out,
            operation.in,
          ]),
        )
      if (factors.has(operation.site))
        throw unsupported(`${operation.site} has two low-rank operations`)
      const folded = lowRankFactors(operation, take)
      const { a } = folded
      const scale = Number(operation.scale)
      const b = transpose(folded.b, site.out, rank)
      if (scale !== 1) for (let i = 0; i < b.length; i++) b[i]! *= scale
      if (operation.op === 'magnitude') {
        const magnitude = take(operation.slots.m, [site.out])
        const w = checkpoint.f32(`${operation.site}.weight`, [site.out, site.in])
        const norms = weightNorms(w, a, b, site.out, site.in, rank)
        const g = magnitude.map((value, o) => value / norms[o]!)
        // y = g * (Wx + s BAx): g on the base's part is a vector, on the other it folds into B.
        for (let r = 0; r < rank; r++)
          for (let o = 0; o < site.out; o++) b[r * site.out + o]! *= g[o]!
        setOnce(compiled.outVectors, operation.site, finite(g, operation.site))
        need('rich')
      }
      factors.set(operation.site, { rank, a, b: finite(b, operation.site) })
      need('low_rank')
      return
    }
    case 'scale': {
      const site = linearSite()
      const size = operation.side === 'input' ? site.in : site.out
      const vectors = operation.side === 'input' ? compiled.inVectors : compiled.outVectors
      setOnce(vectors, operation.site, take(operation.slots.l, [size]))
      need('rich')
      return
    }
    case 'bottleneck':
      addBottleneck(compiled, operation, take, checkpoint.config)
      need('bottleneck')
      return
    case 'prefix': {
      const layer = Number(/^model\.layers\.(\d+)\.self_attn$/.exec(operation.site)?.[1] ?? -1)
      if (layer < 0 || layer >= layers)
        throw unsupported(`prefix at ${operation.site}: no such attention`)
      const shape = [kvHeads, operation.virtualTokens, headDim]
      const { k, v } = operation.slots
      compiled.prefix.push({
        layer,
        tokens: operation.virtualTokens,
        k: placedKeys(take(k, shape), operation, checkpoint.config.ropeTheta),
        v: take(v, shape),
      })
      return
    }
    case 'prompt':
      compiled.prompt = {
        tokens: operation.virtualTokens,
        embeddings: take(operation.slots.E, [operation.virtualTokens, hidden]),
      }
      need('rich')
      return
    case 'replace':
      addReplace(compiled, operation, take, checkpoint)
      return
    case 'dense':
      throw unsupported(mergedOnly(operation))
    default:
      operation satisfies never
      throw unsupported(`unknown operation ${JSON.stringify(operation)}`)
  }
}

/** Folding may overflow although every weight was finite. */
function finite(values: Float32Array, site: string): Float32Array {
  // A plain loop: v - v is 0 for every finite v and NaN for the others, and NaN survives the sum.
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += values[i]! - values[i]!
  if (sum === 0) return values
  throw new GraftError('ERR_WEIGHTS_NON_FINITE', `${site}: the folded weights overflow f32`)
}

/** What an open sequence adds to the bank: pages of every layer, also where this adapter has none. */
function activeBytes(
  { pages, bottleneck, plainBottleneck, own }: CompiledAdapter,
  config: ModelConfig,
): number {
  const page = (kind: GroupKind) =>
    linearGroups(config)
      .filter((group) => group.kind === kind)
      .flatMap(pageTables)
      .reduce((sum, [, floats]) => sum + floats, 0)
  let floats = (bottleneck?.rows ?? 0) * bottleneckKeys(config).length * (2 * config.hidden + 1)
  for (const [kind, { count }] of pages) floats += count * page(kind)
  for (const { count } of plainBottleneck?.places.values() ?? [])
    floats += count * config.layers * PAGE_RANK * (2 * config.hidden + 1)
  return 4 * (floats + (bottleneck?.own?.length ?? 0)) + ownBytes(own)
}

function bytesOf(compiled: CompiledAdapter): number {
  let floats = compiled.head?.length ?? 0
  for (const vector of [...compiled.outVectors.values(), ...compiled.inVectors.values()])
    floats += vector.length
  for (const { k, v } of compiled.prefix) floats += k.length + v.length
  for (const { down, up, downBias } of compiled.bottleneck?.sites.values() ?? [])
    floats += down.length + up.length + downBias.length
  floats += compiled.bottleneck?.own?.length ?? 0
  for (const { tables } of compiled.plainBottleneck?.places.values() ?? [])
    for (const table of tables.values()) floats += table.length
  floats += compiled.prompt?.embeddings.length ?? 0
  for (const row of compiled.embeddings?.values() ?? []) floats += row.length
  let pages = 0
  for (const { tables } of compiled.pages.values())
    for (const table of tables.values()) pages += storedBytes(table)
  return floats * 4 + pages + ownBytes(compiled.own)
}
