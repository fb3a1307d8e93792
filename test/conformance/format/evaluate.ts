import { createHash } from 'node:crypto'
import { exportAdapter } from '@graft/convert/export-adapter.ts'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import type { ImportBase } from '@graft/convert/source-format.ts'
import type { LoadedAdapter } from '@graft/runner/engine/engine.ts'
import { loadedAdapterFromManifest } from '@graft/runner/engine/loaded-adapter.ts'
import { adaptedLinear } from '@graft/runner/engine/reference/adapter-maths.ts'
import { bottleneck } from '@graft/runner/engine/reference/bottleneck.ts'
import { product } from '@graft/runner/engine/reference/maths.ts'
import { denseRows } from '@graft/sdk/format/dense/rows.ts'
import { toNumbers } from '@graft/sdk/format/indices.ts'
import type { Bottleneck, Operation, Prefix } from '@graft/sdk/format/operations.ts'
import { parseManifest } from '@graft/sdk/format/parse-manifest.ts'
import { readSafetensors } from '@graft/sdk/format/safetensors.ts'
import type { Answer, Case, Kit } from './kit.ts'

type Rows = number[][]
type Base = (tensor: string) => Float32Array | null

const lists = (rows: Iterable<ArrayLike<number>>): Rows =>
  Array.from(rows, (row) => Array.from(row))
const f64 = (row: ArrayLike<number>): Float64Array => Float64Array.from(row)

/** An import of what a tool saved: what its sites answer, and the files that export gives back. */
export async function evaluateImport(kit: Kit, given: Case, base: ImportBase): Promise<Answer> {
  const { sources, x } = given as unknown as {
    sources: Record<string, string>
    x: Record<string, Rows>
  }
  const files = new Map(Object.entries(sources).map(([path, at]) => [path, kit.read(at)]))
  const { manifest, safetensors } = await importAdapter({
    files,
    base,
    name: '@kit/import',
    version: '1.0.0',
  })
  const adapter = await loadedAdapterFromManifest(manifest, safetensors)
  const { tensors } = readSafetensors(kit.read(given['base'].weights[0]))
  const values: Base = (name) => {
    const tensor = tensors.get(name)
    return tensor ? toNumbers(tensor.dtype, tensor.data) : null
  }
  const y: Record<string, Rows> = {}
  for (const operation of manifest.operations) {
    const { site } = operation
    const answer = evaluateOperation(operation, adapter, values, { ...given, site, x: x[site] })
    if (answer) y[site] = lists(answer)
  }
  const exported = await exportAdapter({ manifest, safetensors })
  const digests = [...exported].map(([path, bytes]) => [
    path,
    createHash('sha256').update(bytes).digest('hex'),
  ])
  return { y, files: Object.fromEntries(digests.map(([path, sum]) => [path, `sha256:${sum}`])) }
}

/** The reference engine of gpu-runner and the format's own dense forms, at one site. */
export async function evaluate(kit: Kit, given: Case): Promise<Answer> {
  const manifest = parseManifest(kit.read(given['manifest']))
  const adapter = await loadedAdapterFromManifest(manifest, kit.read(given['weights']))
  const { tensors } = readSafetensors(kit.read(given['base']))
  const base: Base = (name) => {
    const tensor = tensors.get(name)
    return tensor ? toNumbers(tensor.dtype, tensor.data) : null
  }
  const [operation] = manifest.operations
  const y = evaluateOperation(operation!, adapter, base, given)
  return y === null ? { unsupported: true } : { y: lists(y) }
}

function evaluateOperation(
  operation: Operation,
  adapter: LoadedAdapter,
  base: Base,
  given: Case,
): Iterable<ArrayLike<number>> | null {
  const { site, x } = given as unknown as { site: string; x: Rows }
  const values = (tensor: string): Float32Array => adapter.tensors.get(tensor)!.data
  switch (operation.op) {
    case 'bottleneck':
      return given['ln'] ? null : block(operation, adapter, given)
    case 'prefix':
      return x.map((q, head) => attend(operation, values, q, head))
    case 'prompt': {
      const { hidden, slots } = operation
      const rows = (table: Float32Array, ids: number[]) =>
        ids.map((id) => table.subarray(id * hidden, (id + 1) * hidden))
      const prompt = rows(values(slots.E), [...Array(operation.virtualTokens).keys()])
      return [...prompt, ...rows(base(`${site}.weight`)!, x[0]!)]
    }
    case 'dense': {
      const w = f64(base(`${site}.weight`)!)
      const turn = denseRows(operation, values)
      for (let o = 0; o < operation.out; o++)
        turn(w.subarray(o * operation.in, (o + 1) * operation.in), o)
      const bias = base(`${site}.bias`)
      return x.map((row) => product(w, f64(row)).map((v, o) => v + (bias?.[o] ?? 0)))
    }
    case 'replace':
      if (operation.rows) {
        const [{ shape, rows, slots }, width] = [operation, operation.shape[1]!]
        const table = base(`${site}.weight`)!.slice()
        for (let i = 0; i < shape[0]!; i++)
          table.set(values(slots.value).subarray(i * width, (i + 1) * width), rows![i]! * width)
        return x[0]!.map((id) => table.subarray(id * width, (id + 1) * width))
      }
      break
    case 'low_rank':
      // What the runner refuses by name: it has no stacks, no convolutions and no low rank embeddings.
      if (operation.experts || operation.kernel || given['input'] === 'tokens') return null
      break
    default:
      break
  }
  const linear = { w: base(`${site}.weight`)!, bias: base(`${site}.bias`) }
  return x.map((row) => adaptedLinear(adapter, site, linear, f64(row)))
}

function block(operation: Bottleneck, adapter: LoadedAdapter, given: Case): Float64Array[] | null {
  const { x, h } = given as unknown as { x: Rows; h: Rows }
  return bottleneck(adapter, operation, x.map(f64), h.map(f64))
}

/** Attention of one query over a prefix alone. */
function attend(
  { virtualTokens, headDim, slots }: Prefix,
  values: (tensor: string) => Float32Array,
  query: number[],
  head: number,
): number[] {
  const at = (tensor: string, t: number, i: number): number =>
    values(tensor)[(head * virtualTokens + t) * headDim + i]!
  const tokens = [...Array(virtualTokens).keys()]
  const scores = tokens.map((t) =>
    Math.exp(query.reduce((sum, q, i) => sum + q * at(slots.k, t, i), 0) / Math.sqrt(headDim)),
  )
  const total = scores.reduce((sum, score) => sum + score, 0)
  return query.map((_, i) =>
    tokens.reduce((sum, t) => sum + (scores[t]! / total) * at(slots.v, t, i), 0),
  )
}
