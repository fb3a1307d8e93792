import { ONNX_TYPE, OnnxModel } from '../graph/onnx-model.ts'
import { MemoryWeights } from '../graph/weight-file.ts'
import { floats, integers32, longs, type Ort, ort } from './ort.ts'
import { createSession } from './session.ts'

const { FLOAT, INT32, INT64 } = ONNX_TYPE

/** Tables of f32 rows in device memory. JavaScript cannot write into them, so small graphs do. */
export class DeviceMemory {
  readonly #writers = new Map<string, Promise<Ort.InferenceSession>>()
  readonly #zeros: Ort.InferenceSession
  readonly #extend: Ort.InferenceSession

  private constructor(zeros: Ort.InferenceSession, extend: Ort.InferenceSession) {
    this.#zeros = zeros
    this.#extend = extend
  }

  /** @throws ERR_NOT_INSTALLED when the machine has no adapter */
  static async open(): Promise<DeviceMemory> {
    const zeros = await small((m) => {
      m.input('dims', INT64, [2])
      m.output('table', FLOAT, ['rows', 'width'])
      m.node('Expand', [m.constant('zero', FLOAT, [1], new Float32Array(1)), 'dims'], {}, ['table'])
    }, 'device')
    const extend = await small((m) => {
      m.input('table', FLOAT, ['rows', 'width'])
      m.input('pads', INT64, [4])
      m.output('longer', FLOAT, ['more', 'width'])
      m.node('Pad', ['table', 'pads'], {}, ['longer'])
    }, 'device')
    return new DeviceMemory(zeros, extend)
  }

  /** A table of zeros [rows, width]. */
  async zeros(rows: number, width: number): Promise<Ort.Tensor> {
    const dims = longs(BigInt64Array.of(BigInt(rows), BigInt(width)), [2])
    return (await this.#zeros.run({ dims }))['table']!
  }

  /** The table with rows of zeros behind it; the shorter one is given up. */
  async extend(table: Ort.Tensor, rows: number): Promise<Ort.Tensor> {
    const more = BigInt(rows - table.dims[0]!)
    const pads = longs(BigInt64Array.of(0n, 0n, more, 0n), [4])
    const { longer } = await this.#extend.run({ table, pads })
    table.dispose()
    return longer!
  }

  /** Writes the same rows of several tables: values [rows, width] of each, in the tables' order. */
  async write(
    tables: ReadonlyMap<string, Ort.Tensor>,
    rows: number[],
    values: (name: string) => Float32Array,
  ): Promise<void> {
    if (rows.length === 0 || tables.size === 0) return
    const names = [...tables.keys()]
    const feeds: Record<string, Ort.Tensor> = {
      rows: integers32(Int32Array.from(rows), [rows.length, 1]),
    }
    const fetches: Record<string, Ort.Tensor> = {}
    for (const [name, table] of tables) {
      feeds[`${name}.table`] = table
      feeds[`${name}.values`] = floats(values(name), [rows.length, table.dims[1]!])
      fetches[`${name}.written`] = table
    }
    const writer = this.#session(names.join(' '), (m) => {
      m.input('rows', INT32, ['n', 1])
      for (const name of names) {
        const width = tables.get(name)!.dims[1]!
        const table = m.input(`${name}.table`, FLOAT, ['rows', width])
        const values = m.input(`${name}.values`, FLOAT, ['n', width])
        const at = m.node('Expand', ['rows', m.integers([1, width])])
        m.output(`${name}.written`, FLOAT, ['rows', width])
        m.node('ScatterElements', [table, at, values], { axis: 0 }, [`${name}.written`])
      }
    })
    await (await writer).run(feeds, fetches)
  }

  /** Copies rows of several tables of one width to other rows of them; no row is both. */
  async copy(tables: ReadonlyMap<string, Ort.Tensor>, from: number[], to: number[]): Promise<void> {
    if (from.length === 0) return
    const names = [...tables.keys()]
    const feeds: Record<string, Ort.Tensor> = {
      from: integers32(Int32Array.from(from), [from.length]),
      to: integers32(Int32Array.from(to), [to.length, 1]),
    }
    const fetches: Record<string, Ort.Tensor> = {}
    for (const [name, table] of tables) {
      feeds[`${name}.table`] = table
      fetches[`${name}.written`] = table
    }
    const copier = this.#session(`copy ${names.join(' ')}`, (m) => {
      m.input('from', INT32, ['n'])
      m.input('to', INT32, ['n', 1])
      for (const name of names) {
        const width = tables.get(name)!.dims[1]!
        const table = m.input(`${name}.table`, FLOAT, ['rows', width])
        const values = m.node('Gather', [table, 'from'], { axis: 0 })
        const at = m.node('Expand', ['to', m.integers([1, width])])
        m.output(`${name}.written`, FLOAT, ['rows', width])
        m.node('ScatterElements', [table, at, values], { axis: 0 }, [`${name}.written`])
      }
    })
    await (await copier).run(feeds, fetches)
  }

  async dispose(): Promise<void> {
    await this.#zeros.release()
    await this.#extend.release()
    for (const writer of this.#writers.values()) await (await writer).release()
    this.#writers.clear()
  }

  /** A graph that writes in place, made once. */
  #session(key: string, write: (m: OnnxModel) => void): Promise<Ort.InferenceSession> {
    const known = this.#writers.get(key)
    if (known) return known
    const session = small(write, 'in place')
    this.#writers.set(key, session)
    return session
  }
}

/** Another shape over the memory of a tensor on the device. */
export const viewOf = (tensor: Ort.Tensor, dims: number[]): Ort.Tensor =>
  ort.Tensor.fromGpuBuffer(tensor.gpuBuffer, { dataType: 'float32', dims })

function small(
  write: (model: OnnxModel) => void,
  outputs: 'device' | 'in place',
): Promise<Ort.InferenceSession> {
  const m = new OnnxModel(new MemoryWeights())
  write(m)
  return createSession(m.finish(), {
    execution: 'webgpu',
    threads: 1,
    ...(outputs === 'device' ? { outputsOnDevice: true } : {}),
  })
}
