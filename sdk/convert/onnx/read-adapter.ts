import { type ByteSource, readRange } from '@graft/sdk/format/byte-source.ts'
import { expected } from '@graft/sdk/format/errors.ts'
import { typeName, weightType } from './data-types.ts'
import { type FlatTable, invalid, openFlatbuffer } from './flatbuffer.ts'

/** "TORT", after the root's offset. */
export const ORT_IDENTIFIER = [0x54, 0x4f, 0x52, 0x54] as const
/** The only one there is (onnxruntime/lora/adapter_format_version.h). */
export const ORT_FORMAT_VERSION = 1
/** Far above what a graph calls its inputs. */
const MAX_NAME_BYTES = 1024
const MAX_DIMENSIONS = 8

export interface OrtParameter {
  /** Name of a graph input. */
  name: string
  dtype: string
  /** C order. */
  shape: number[]
  /** Byte offsets [begin, end) in the file. */
  begin: number
  end: number
}

export interface OrtAdapter {
  adapterVersion: number
  modelVersion: number
  /** In the order of the file's list. */
  parameters: OrtParameter[]
}

async function readParameter(table: FlatTable, i: number): Promise<OrtParameter> {
  const name = await table.text(0, MAX_NAME_BYTES, `name of parameter ${i}`)
  if (name === '') throw invalid(`parameter ${i} has no name`)
  const where = `parameter ${JSON.stringify(name)}`
  const shape = await table.int64s(1, MAX_DIMENSIONS, `${where}: dims`)
  const id = await table.int32(2, `${where}: data_type`)
  const type = weightType(id)
  if (type === null)
    throw invalid(
      `${expected(`${where}: data_type`, 'FLOAT, FLOAT16, BFLOAT16 or DOUBLE', typeName(id))}; quantised adapters (--quantize_int4) are not imported, convert again without`,
    )
  const { begin, end } = await table.bytes(3, `${where}: raw_data`)
  const want = shape.reduce((n, dim) => n * dim, type.bytes)
  if (shape.length === 0 || shape.some((dim) => dim < 1) || !Number.isSafeInteger(want))
    throw invalid(expected(`${where}: dims`, 'one or more integers >= 1', shape))
  if (end - begin !== want)
    throw invalid(
      expected(`${where}: raw_data`, `${want} bytes for ${type.dtype} [${shape}]`, end - begin),
    )
  return { name, dtype: type.dtype, shape, begin, end }
}

/** Each name once, and no byte in two tensors. */
function checkApart(parameters: readonly OrtParameter[]): void {
  const names = new Set<string>()
  for (const { name } of parameters) {
    if (names.has(name)) throw invalid(`parameter ${JSON.stringify(name)} stands twice`)
    names.add(name)
  }
  const placed = [...parameters].sort((a, b) => a.begin - b.begin)
  for (const [i, { name, begin }] of placed.entries())
    if (i > 0 && begin < placed[i - 1]!.end)
      throw invalid(
        `the data of ${JSON.stringify(name)} overlaps that of ${JSON.stringify(placed[i - 1]!.name)}`,
      )
}

/**
 * Reads all of an ONNX Runtime adapter but its tensors' data.
 * @throws ERR_CONFIG_INVALID naming what is wrong
 */
export async function readOrtAdapter(source: ByteSource): Promise<OrtAdapter> {
  const identifier = source.size < 8 ? [] : [...(await readRange(source, 4, 8))]
  if (identifier.join() !== ORT_IDENTIFIER.join())
    throw invalid(expected('the identifier', '"TORT"', String.fromCharCode(...identifier)))
  const root = await openFlatbuffer(source)
  const version = await root.int32(0, 'format_version')
  if (version !== ORT_FORMAT_VERSION)
    throw invalid(expected('format_version', String(ORT_FORMAT_VERSION), version))
  const parameters: OrtParameter[] = []
  for (const [i, table] of (await root.tables(3, 'parameters')).entries())
    parameters.push(await readParameter(table, i))
  if (parameters.length === 0) throw invalid('it has no parameters')
  checkApart(parameters)
  return {
    adapterVersion: await root.int32(1, 'adapter_version'),
    modelVersion: await root.int32(2, 'model_version'),
    parameters,
  }
}
