import { decodeBase64 } from '@graft/sdk/format/base64url.ts'
import { type ByteSource, heldBytes } from '@graft/sdk/format/byte-source.ts'
import { DTYPES, isDtype } from '@graft/sdk/format/dtypes.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { KeyRow, Origin } from '@graft/sdk/format/manifest.ts'
import { safetensorsSource } from '@graft/sdk/format/safetensors-source.ts'
import {
  derivedTensor,
  heldTensor,
  readTensor,
  reshaped,
  type TensorSource,
} from '@graft/sdk/format/tensor-source.ts'
import { joinBlocks, parseBlock } from './blocks.ts'
import { diagonalMatrix } from './diagonal.ts'
import type { OpenAdapter } from './exporter.ts'
import { inverseOrder, permuteRows } from './permute-rows.ts'
import { movePlane } from './planes.ts'
import { gather, parseSpread } from './spread.ts'
import { transposed } from './transpose.ts'

const unknown = (row: KeyRow): GraftError =>
  new GraftError(
    'ERR_MANIFEST_INVALID',
    `origin.keyMap: transform ${JSON.stringify(row.transform)} of ${row.key} is not known; upgrade to export this adapter`,
  )

const fail = (row: KeyRow): never => {
  throw unknown(row)
}
const missing = (row: KeyRow | undefined): never => {
  throw new GraftError('ERR_TENSOR_MISSING', `tensor ${row?.tensor} is not in the file`)
}

const numbers = (text: string): number[] => text.split(',').map(Number)

/** [tokens, count * heads * headDim] out of its planes [heads, tokens, headDim]. */
function joinPlanes(
  rows: readonly KeyRow[],
  tensors: ReadonlyMap<string, TensorSource>,
): TensorSource {
  const first = tensors.get(rows[0]!.tensor)!
  const [heads = 0, tokens = 0, headDim = 0] = first.shape
  if (!isDtype(first.dtype)) throw unknown(rows[0]!)
  const rowBytes = (headDim * DTYPES[first.dtype].bits) / 8
  const count = rows.length
  const planes = rows.map((row) => {
    const [index = 0, of] = numbers(row.transform.slice('plane '.length))
    const plane = tensors.get(row.tensor)!
    if (of !== count || plane.data.size !== first.data.size || !(index < count)) throw unknown(row)
    return { index, plane }
  })
  const bytes = count * first.data.size
  return derivedTensor(first.dtype, [tokens, count * heads * headDim], bytes, async () => {
    const data = new Uint8Array(bytes)
    for (const { index, plane } of planes)
      movePlane(
        data,
        (await readTensor(plane)).data,
        { tokens, count, heads, rowBytes },
        index,
        'join',
      )
    return data
  })
}

function fromBlocks(
  rows: readonly KeyRow[],
  tensors: ReadonlyMap<string, TensorSource>,
): TensorSource {
  const parts = rows.map((row) => ({
    ...(parseBlock(row.transform) ?? fail(row)),
    tensor: tensors.get(row.tensor) ?? missing(row),
  }))
  return joinBlocks(parts) ?? fail(rows[0]!)
}

function fromSpread(row: KeyRow, tensor: TensorSource): TensorSource {
  return gather(tensor, parseSpread(row.transform) ?? fail(row)) ?? fail(row)
}

function restore(
  rows: readonly KeyRow[],
  tensors: ReadonlyMap<string, TensorSource>,
): TensorSource {
  const [row] = rows
  const tensor = row && tensors.get(row.tensor)
  if (row === undefined || tensor === undefined) return missing(row)
  const [kind, argument = ''] = row.transform.split(' ')
  if (kind === 'plane') return joinPlanes(rows, tensors)
  if (kind === 'block') return fromBlocks(rows, tensors)
  if (rows.length !== 1) throw unknown(row)
  if (kind === 'identity') return tensor
  if (kind === 'shape') return reshaped(tensor, argument === '' ? [] : numbers(argument))
  // Canonical row i was the source's row order[i].
  if (kind === 'rows') return permuteRows(tensor, inverseOrder(numbers(argument)))
  if (kind === 'transpose') return transposed(tensor)
  if (kind === 'diagonal') return diagonalMatrix(tensor)
  if (kind === 'spread') return fromSpread(row, tensor)
  throw unknown(row)
}

/**
 * The source's own tensors, out of the canonical ones and the origin's literals.
 * @param file of the source, where the tool wrote several
 * @throws ERR_MANIFEST_INVALID for a transform that is not known, ERR_TENSOR_MISSING
 */
export function restoreTensors(
  origin: Pick<Origin, 'keyMap' | 'literals'>,
  tensors: ReadonlyMap<string, TensorSource>,
  file?: string,
): Map<string, TensorSource> {
  const byKey = new Map<string, KeyRow[]>()
  for (const row of origin.keyMap)
    if (row.file === file) byKey.set(row.key, [...(byKey.get(row.key) ?? []), row])
  const restored = new Map<string, TensorSource>()
  const copies: KeyRow[] = []
  for (const [key, rows] of byKey)
    if (rows[0]!.transform.startsWith('copy ')) copies.push(rows[0]!)
    else restored.set(key, restore(rows, tensors))
  for (const row of copies)
    restored.set(row.key, restored.get(row.transform.slice('copy '.length)) ?? fail(row))
  for (const { key, dtype, shape, data, file: of } of origin.literals ?? [])
    if (of === file) restored.set(key, heldTensor({ dtype, shape, data: decodeBase64(data) }))
  return restored
}

/** The files of a tool that writes one safetensors file and perhaps a config beside it. */
export function rebuildSafetensors(
  { manifest: { origin }, tensors }: OpenAdapter,
  names: { config: string | null; weights: string },
): Map<string, ByteSource> {
  if (origin === null)
    throw new GraftError('ERR_METHOD_UNSUPPORTED', 'the adapter keeps no origin to rebuild')
  const given = {
    ...(origin.header === undefined ? {} : { header: decodeBase64(origin.header) }),
    ...(origin.metadataOrder === undefined ? {} : { metadataOrder: origin.metadataOrder }),
  }
  const files = new Map<string, ByteSource>()
  if (names.config !== null) files.set(names.config, heldBytes(decodeBase64(origin.config)))
  const restored = restoreTensors(origin, tensors)
  files.set(names.weights, safetensorsSource(restored, origin.metadata, given))
  for (const { path, data } of origin.files ?? []) files.set(path, heldBytes(decodeBase64(data)))
  return files
}
