/** ONNX Runtime's TensorDataType (onnxruntime/lora/adapter_format/adapter_schema.fbs) by number. */
const NAMES = [
  'UNDEFINED',
  'FLOAT',
  'UINT8',
  'INT8',
  'UINT16',
  'INT16',
  'INT32',
  'INT64',
  'STRING',
  'BOOL',
  'FLOAT16',
  'DOUBLE',
  'UINT32',
  'UINT64',
  'COMPLEX64',
  'COMPLEX128',
  'BFLOAT16',
  'FLOAT8E4M3FN',
  'FLOAT8E4M3FNUZ',
  'FLOAT8E5M2',
  'FLOAT8E5M2FNUZ',
]

export const typeName = (id: number): string => NAMES[id] ?? `type ${id}`

/** Those that weights may have: safetensors' name and bytes of an element. */
const WEIGHTS: ReadonlyMap<number, { dtype: string; bytes: number }> = new Map([
  [1, { dtype: 'F32', bytes: 4 }],
  [10, { dtype: 'F16', bytes: 2 }],
  [11, { dtype: 'F64', bytes: 8 }],
  [16, { dtype: 'BF16', bytes: 2 }],
])

export const weightType = (id: number) => WEIGHTS.get(id) ?? null

export const typeOf = (dtype: string): number | null =>
  [...WEIGHTS].find(([, row]) => row.dtype === dtype)?.[0] ?? null
