import { decodeBase64 } from '@graft/sdk/format/base64url.ts'
import { DTYPES, isDtype } from '@graft/sdk/format/dtypes.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Manifest, Origin } from '@graft/sdk/format/manifest.ts'
import { readSafetensors, type Tensor, writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import { movePlane } from './peft-prompts.ts'

const NAMES = {
  peft: { config: 'adapter_config.json', weights: 'adapter_model.safetensors' },
  adapters: { config: 'adapter_config.json', weights: 'adapter.safetensors' },
} as const

const unknown = (row: Origin['keyMap'][number]): GraftError =>
  new GraftError(
    'ERR_MANIFEST_INVALID',
    `origin.keyMap: transform ${JSON.stringify(row.transform)} of ${row.key} is not known; upgrade to export this adapter`,
  )

const numbers = (text: string): number[] => text.split(',').map(Number)

/** [tokens, 2 * layers * heads * headDim] out of its planes [heads, tokens, headDim]. */
function joinPlanes(rows: Origin['keyMap'], tensors: ReadonlyMap<string, Tensor>): Tensor {
  const first = tensors.get(rows[0]!.tensor)!
  const [heads = 0, tokens = 0, headDim = 0] = first.shape
  if (!isDtype(first.dtype)) throw unknown(rows[0]!)
  const rowBytes = (headDim * DTYPES[first.dtype].bits) / 8
  const count = rows.length
  const data = new Uint8Array(count * first.data.length)
  for (const row of rows) {
    const [index = 0, of] = numbers(row.transform.slice('plane '.length))
    const plane = tensors.get(row.tensor)!
    if (of !== count || plane.data.length !== first.data.length || !(index < count))
      throw unknown(row)
    movePlane(data, plane.data, { tokens, count, heads, rowBytes }, index, 'join')
  }
  return { dtype: first.dtype, shape: [tokens, count * heads * headDim], data }
}

/** Undoes `rows a,b,..`: canonical row i was the source's row order[i]. */
function unsortRows(tensor: Tensor, order: number[]): Tensor {
  const bytes = tensor.data.length / order.length
  const data = new Uint8Array(tensor.data.length)
  for (const [to, from] of order.entries())
    data.set(tensor.data.subarray(to * bytes, (to + 1) * bytes), from * bytes)
  return { ...tensor, data }
}

function restore(rows: Origin['keyMap'], tensors: ReadonlyMap<string, Tensor>): Tensor {
  const [row] = rows
  const tensor = row && tensors.get(row.tensor)
  if (row === undefined || tensor === undefined)
    throw new GraftError('ERR_TENSOR_MISSING', `tensor ${row?.tensor} is not in the file`)
  const [kind, argument = ''] = row.transform.split(' ')
  if (kind === 'plane') return joinPlanes(rows, tensors)
  if (rows.length !== 1) throw unknown(row)
  if (kind === 'identity') return tensor
  if (kind === 'shape') return { ...tensor, shape: numbers(argument) }
  if (kind === 'rows') return unsortRows(tensor, numbers(argument))
  throw unknown(row)
}

/**
 * The folder that the author's tool wrote: its config's exact bytes and a safetensors file of the same tensors.
 * @throws ERR_METHOD_UNSUPPORTED when the adapter did not come from PEFT or AdapterHub, ERR_TENSOR_MISSING
 */
export function exportAdapter(adapter: {
  manifest: Manifest
  safetensors: Uint8Array
}): Map<string, Uint8Array> {
  const { origin } = adapter.manifest
  if (origin === null || (origin.format !== 'peft' && origin.format !== 'adapters'))
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `an adapter of origin ${origin?.format ?? 'none'} cannot be exported; PEFT and AdapterHub ones can`,
    )
  const { tensors } = readSafetensors(adapter.safetensors)
  const byKey = new Map<string, Origin['keyMap']>()
  for (const row of origin.keyMap) byKey.set(row.key, [...(byKey.get(row.key) ?? []), row])
  const restored = new Map([...byKey].map(([key, rows]) => [key, restore(rows, tensors)]))
  const names = NAMES[origin.format]
  return new Map<string, Uint8Array>([
    [names.config, decodeBase64(origin.config)],
    [names.weights, writeSafetensors(restored, origin.metadata)],
  ])
}
