import { bytes, type Field, float, integer, message, text } from './protobuf.ts'
import type { MakeWeight, WeightFile } from './weight-file.ts'

/** onnx.proto3 (IR version 10): TensorProto.DataType. */
export const ONNX_TYPE = {
  FLOAT: 1,
  UINT8: 2,
  INT8: 3,
  INT32: 6,
  INT64: 7,
  BOOL: 9,
  FLOAT16: 10,
} as const
export type OnnxType = (typeof ONNX_TYPE)[keyof typeof ONNX_TYPE]

/** Bytes of one element. */
const BYTES: Record<OnnxType, number> = { 1: 4, 2: 1, 3: 1, 6: 4, 7: 8, 9: 1, 10: 2 }

export type Attribute = number | string | number[] | { float: number }

/** A dimension is a size, or a name where it differs from run to run. */
export type Dim = number | string

const MICROSOFT = 'com.microsoft'
const CONTRIB = new Set([
  'FusedMatMul',
  'GatherBlockQuantized',
  'GroupQueryAttention',
  'MatMulBnb4',
  'MatMulIntegerToFloat',
  'MatMulNBits',
  'QuickGelu',
  'RotaryEmbedding',
  'SkipSimplifiedLayerNormalization',
])

/** Collects a graph and writes it as ModelProto bytes; weights lie in a file beside it, never in the protobuf. */
export class OnnxModel {
  /** Of the graph, or of the branch that is being written. */
  #nodes: Uint8Array[] = []
  /** Values that the branch being written gives; null outside of branches. */
  #made: Set<string> | null = null
  readonly #initializers: Uint8Array[] = []
  readonly #inputs: Uint8Array[] = []
  readonly #outputs: Uint8Array[] = []
  readonly #known = new Set<string>()
  readonly #weights: WeightFile
  #names = 0

  constructor(weights: WeightFile) {
    this.#weights = weights
  }

  input(name: string, type: OnnxType, dims: Dim[]): string {
    this.#inputs.push(valueInfo(name, type, dims))
    return name
  }

  output(name: string, type: OnnxType, dims: Dim[]): void {
    this.#outputs.push(valueInfo(name, type, dims))
  }

  /** Adds a node and names its outputs. @returns the first output */
  node(
    op: string,
    inputs: string[],
    attributes: Record<string, Attribute> = {},
    outputs?: string[],
  ): string {
    const out = outputs ?? [`${op}_${++this.#names}`]
    for (const name of out) this.#made?.add(name)
    this.#nodes.push(
      message([
        ...inputs.map((name) => text(1, name)),
        ...out.map((name) => text(2, name)),
        text(4, op),
        ...Object.entries(attributes).map(([name, value]) => bytes(5, attribute(name, value))),
        ...(CONTRIB.has(op) ? [text(7, MICROSOFT)] : []),
      ]),
    )
    return out[0]!
  }

  /**
   * One of two values of floats, by a scalar bool; what the other needs is not computed. Branches may read every value
   * written before them, and inputs, constants and weights that they add belong to the whole graph.
   */
  branch(condition: string, then: () => string, otherwise: () => string): string {
    const graphs = [this.#branchGraph('then', then), this.#branchGraph('else', otherwise)]
    const out = `If_${++this.#names}`
    this.#made?.add(out)
    this.#nodes.push(
      message([
        text(1, condition),
        text(2, out),
        text(4, 'If'),
        ...['then_branch', 'else_branch'].map((name, i) =>
          bytes(5, message([text(1, name), bytes(6, graphs[i]!), integer(20, 5)])),
        ),
      ]),
    )
    return out
  }

  /** GraphProto of a branch; its value is one of its own nodes', as ONNX asks. */
  #branchGraph(name: string, write: () => string): Uint8Array {
    const [nodes, made] = [this.#nodes, this.#made]
    const own = new Set<string>()
    this.#nodes = []
    this.#made = own
    const value = write()
    const out = own.has(value) ? value : this.node('Identity', [value])
    const graph = message([
      ...this.#nodes.map((node) => bytes(1, node)),
      text(2, name),
      bytes(12, message([text(1, out), bytes(2, message([bytes(1, message([integer(1, 1)]))]))])),
    ])
    this.#nodes = nodes
    this.#made = made
    return graph
  }

  /** A small constant inside the protobuf; the same name is written once. */
  constant(name: string, type: OnnxType, dims: number[], data: ArrayBufferView): string {
    if (this.#known.has(name)) return name
    this.#known.add(name)
    const raw = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    this.#initializers.push(message([...tensorHead(name, type, dims), bytes(9, raw)]))
    return name
  }

  integers(values: number[], scalar = false): string {
    const data = BigInt64Array.from(values, BigInt)
    return this.constant(
      `i64_${values.join('_')}${scalar ? 's' : ''}`,
      ONNX_TYPE.INT64,
      scalar ? [] : [values.length],
      data,
    )
  }

  /**
   * A weight in the external file.
   * @param make gives its bytes where the file lacks them
   * @param range names a larger weight that holds this one `skip` bytes after its start: `make` gives all of that
   */
  weight(
    name: string,
    type: OnnxType,
    dims: number[],
    make: MakeWeight,
    range: { of: string; skip: number } = { of: name, skip: 0 },
  ): string {
    if (this.#known.has(name)) return name
    this.#known.add(name)
    const place = this.#weights.place(range.of, make)
    const length = dims.reduce((a, b) => a * b, BYTES[type])
    const entry = (key: string, value: string) => bytes(13, message([text(1, key), text(2, value)]))
    this.#initializers.push(
      message([
        ...tensorHead(name, type, dims),
        entry('location', this.#weights.name),
        entry('offset', String(place.offset + range.skip)),
        entry('length', String(length)),
        integer(14, 1),
      ]),
    )
    return name
  }

  /** ModelProto bytes. */
  finish(): Uint8Array {
    const graph = message([
      ...this.#nodes.map((node) => bytes(1, node)),
      text(2, 'graft'),
      ...this.#initializers.map((tensor) => bytes(5, tensor)),
      ...this.#inputs.map((value) => bytes(11, value)),
      ...this.#outputs.map((value) => bytes(12, value)),
    ])
    const opset = (domain: string, version: number) =>
      bytes(8, message([text(1, domain), integer(2, version)]))
    return message([
      integer(1, 10),
      text(2, 'graft'),
      opset('', 21),
      opset(MICROSOFT, 1),
      bytes(7, graph),
    ])
  }
}

const tensorHead = (name: string, type: OnnxType, dims: number[]): Field[] => [
  ...dims.map((dim) => integer(1, dim)),
  integer(2, type),
  text(8, name),
]

function valueInfo(name: string, type: OnnxType, dims: Dim[]): Uint8Array {
  const shape = message(
    dims.map((dim) =>
      bytes(1, message([typeof dim === 'number' ? integer(1, dim) : text(2, dim)])),
    ),
  )
  const tensor = message([integer(1, type), bytes(2, shape)])
  return message([text(1, name), bytes(2, message([bytes(1, tensor)]))])
}

function attribute(name: string, value: Attribute): Uint8Array {
  if (typeof value === 'string') return message([text(1, name), text(4, value), integer(20, 3)])
  if (typeof value === 'number') return message([text(1, name), integer(3, value), integer(20, 2)])
  if (Array.isArray(value))
    return message([text(1, name), ...value.map((v) => integer(8, v)), integer(20, 7)])
  return message([text(1, name), float(2, value.float), integer(20, 1)])
}
