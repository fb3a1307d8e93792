import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import type { LowRank, Operation } from '@graft/sdk/format/operations.ts'
import { baseAt, readFolder, tensorsOf, type Values } from '../fixtures.ts'

export const FIXTURES = join(import.meta.dirname, 'fixtures')

interface Made {
  adapters: Record<string, { base: string; transformers: string }>
}
const { adapters } = JSON.parse(readFileSync(join(FIXTURES, 'fixtures.json'), 'utf8')) as Made

/** Folders that PEFT wrote, by the base that they were made on. */
export const MADE: Readonly<Record<string, string>> = Object.fromEntries(
  Object.entries(adapters).map(([name, { base }]) => [name, base]),
)

export const baseNamed = (name: string) => baseAt(join(FIXTURES, 'bases', name), name)
export const folderOf = (name: string) => readFolder(join(FIXTURES, name))

/** Imports a folder of fixtures/, changed by `edit`, on the base that it was made on. */
export async function importMade(
  name: string,
  edit: (files: Map<string, Uint8Array>) => void = () => {},
) {
  const files = folderOf(name)
  edit(files)
  const base = await baseNamed(MADE[name]!)
  const made = await importAdapter({ files, base, name: '@acme/made', version: '1.0.0' })
  const { manifest, safetensors } = made
  return { ...made, operations: manifest.operations, tensors: tensorsOf(safetensors) }
}

export const expectedDeltas = (name: string): Map<string, Values> => {
  const all = tensorsOf(new Uint8Array(readFileSync(join(FIXTURES, name, 'expected.safetensors'))))
  return new Map([...all].map(([key, values]) => [key.replace('delta.', ''), values]))
}

/** s D B E A by SPEC.md, [stacks, out, in * kernel]: each factor where it stands in the formula. */
export function deltaOf(op: LowRank, tensors: ReadonlyMap<string, Values>): Float64Array {
  const slot = (name: string | undefined) => (name === undefined ? null : tensors.get(name)!.data)
  const [a, b] = [slot(op.slots.A)!, slot(op.slots.B)!]
  const [e, d] = [slot(op.slots.E), slot(op.slots.D)]
  const stacks = op.experts ?? 1
  const width = op.in * (op.kernel ?? []).reduce((n, size) => n * size, 1)
  const delta = new Float64Array(stacks * op.out * width)
  for (let s = 0; s < stacks; s++)
    for (let o = 0; o < op.out; o++)
      for (let r = 0; r < op.rank; r++) {
        const factor =
          Number(op.scale) * (d?.[o] ?? 1) * b[(s * op.out + o) * op.rank + r]! * (e?.[r] ?? 1)
        for (let i = 0; i < width; i++)
          delta[(s * op.out + o) * width + i]! += factor * a[(s * op.rank + r) * width + i]!
      }
  return delta
}

/** Largest difference as a share of the largest value. */
export function worstShare(own: ArrayLike<number>, want: ArrayLike<number>): number {
  if (own.length !== want.length) throw new Error(`${own.length} values, not ${want.length}`)
  let [worst, most] = [0, 0]
  for (let i = 0; i < want.length; i++) {
    worst = Math.max(worst, Math.abs(own[i]! - want[i]!))
    most = Math.max(most, Math.abs(want[i]!))
  }
  return worst / most
}

export const lowRanks = (operations: readonly Operation[]): LowRank[] =>
  operations.filter((op): op is LowRank => op.op === 'low_rank')
