import { createBaseSites } from '@graft/sdk/format/base-sites.ts'
import { sliceOf } from '@graft/sdk/format/byte-source.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { LowRank } from '@graft/sdk/format/operations.ts'
import type { TensorSource } from '@graft/sdk/format/tensor-source.ts'
import { type Collector, type Compiled, createCollector, resolveSite } from '../compiled.ts'
import type { Detected, ImportBase, SourceFiles } from '../source-format.ts'
import { transposed } from '../transpose.ts'
import { layoutOf } from './layout.ts'
import { moduleOf } from './names.ts'
import { readOrtAdapter } from './read-adapter.ts'

type Pair = { A?: string; B?: string }

function pairs(inputs: readonly string[]): Map<string, { A: string; B: string }> {
  const found = new Map<string, Pair>()
  for (const input of inputs) {
    const { path, part } = moduleOf(input)
    found.set(path, { ...found.get(path), [part]: input })
  }
  for (const [path, { A, B }] of found)
    if (A === undefined || B === undefined)
      throw new GraftError(
        'ERR_TENSOR_MISSING',
        `.onnx_adapter: ${path} has no lora_${A === undefined ? 'A' : 'B'}.weight`,
      )
  return found as Map<string, { A: string; B: string }>
}

function checkShape(input: string, got: readonly number[], want: readonly (number | '*')[]): void {
  if (got.length !== want.length || want.some((dim, i) => dim !== '*' && dim !== got[i]))
    throw new GraftError(
      'ERR_TENSOR_SHAPE',
      `.onnx_adapter: ${expected(input, `[${want}] for this base`, got)}; the adapter was made for another base`,
    )
}

/** Graph inputs are the transposes of PEFT's weights: A [in, rank], B [rank, out]. */
const addTurned = (
  collector: Collector,
  input: string,
  site: string,
  slot: string,
  tensor: TensorSource,
): string => collector.add(input, site, slot, transposed(tensor), 'transpose')

/**
 * An adapter for ONNX Runtime, with the names that Olive gives it. Olive folds the scale into B and keeps no record of it,
 * so the scale is 1 and the flag says that the author's alpha is not known.
 * @throws ERR_CONFIG_INVALID, ERR_METHOD_UNSUPPORTED, ERR_TENSOR_*
 */
export async function importOnnx(
  { weightsPath }: Detected,
  files: SourceFiles,
  base: ImportBase,
): Promise<Compiled> {
  const source = files.get(weightsPath)!
  const adapter = await readOrtAdapter(source)
  const tensors = new Map(
    adapter.parameters.map(({ name, dtype, shape, begin, end }): [string, TensorSource] => [
      name,
      { dtype, shape, data: sliceOf(source, begin, end) },
    ]),
  )
  const collector = createCollector(tensors)
  const sites = createBaseSites(base.tensors, base.identity.modelType)
  const operations: LowRank[] = []
  for (const [path, inputs] of pairs(collector.keys)) {
    const site = resolveSite(sites, path, inputs.A)
    const linear = sites.linear(site)
    if (linear === null)
      throw new GraftError('ERR_TENSOR_UNMATCHED', `${site} is no linear layer of the base`)
    const [a, b] = [collector.peek(inputs.A)!, collector.peek(inputs.B)!]
    checkShape(inputs.A, a.shape, [linear.in, '*'])
    const rank = a.shape[1]!
    checkShape(inputs.B, b.shape, [rank, linear.out])
    operations.push({
      op: 'low_rank',
      site,
      in: linear.in,
      out: linear.out,
      rank,
      scale: '1',
      slots: {
        A: addTurned(collector, inputs.A, site, 'lora.A', a),
        B: addTurned(collector, inputs.B, site, 'lora.B', b),
      },
    })
  }
  collector.assertAllTaken('')
  const layout = await layoutOf(source, adapter, tensors)
  // With a header, tensors come back in the order of their bytes, else in that of the list.
  const order = adapter.parameters
    .toSorted((a, b) => (layout.header === undefined ? 0 : a.begin - b.begin))
    .map(({ name }) => name)
  const rows = new Map(collector.keyMap.map((row) => [row.key, row]))
  return {
    family: 'lora',
    flags: ['scale_folded'],
    operations,
    tensors: collector.tensors,
    origin: {
      toolVersion: null,
      config: '',
      keyMap: order.map((key) => rows.get(key)!),
      ...layout,
    },
    inert: [],
    training: {},
  }
}
