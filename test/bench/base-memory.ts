import { spawn } from 'node:child_process'
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Memory } from './base-memory/one-start.ts'
import { type Bench, NOTHING } from './bench.ts'
import { randomBase } from './random-base.ts'
import { writeRandomFolder } from './random-folder.ts'
import { SHAPES, type ShapeName } from './shapes.ts'

const SMALLEST = {
  hidden: 64,
  layers: 1,
  heads: 1,
  kvHeads: 1,
  headDim: 64,
  intermediate: 128,
  vocab: 128,
}
const PRECISIONS = ['fp32', 'int8', 'w8a8', 'int4', 'nf4'] as const

/**
 * Memory of a prepared base in a process of its own, as a share of its weights at the serving precision: the first
 * start, which prepares it, and the second, which maps it. What a process with its threads takes over a base of a few
 * kilobytes is taken off.
 */
export const baseMemory: Bench = {
  about: 'memory of a prepared base over its weights: first start, second start',
  needs: NOTHING,
  async run({ quick, progress }) {
    const shapes: ShapeName[] = quick ? ['135m'] : ['135m', '2048']
    const floor = await smallest()
    const details: Record<string, unknown> = {}
    let [resident, peak] = [0, 0]
    for (const name of shapes) {
      const base = await writeRandomFolder(randomBase(`random-${name}`, SHAPES[name]))
      try {
        for (const precision of PRECISIONS) {
          const found = await measure(base.dir, precision, floor)
          details[`${name} ${precision}`] = found
          resident = Math.max(resident, found.second.resident, found.first.resident)
          peak = Math.max(peak, found.first.peak, found.second.peak)
          progress(`${name} ${precision}: ${JSON.stringify(found)}`)
        }
      } finally {
        await base.remove()
      }
    }
    return { resident, peak, process_mb: Math.round(floor / 1e6), shapes: details }
  },
}

/** What is resident with the engine's threads and next to no weights. */
async function smallest(): Promise<number> {
  const base = await writeRandomFolder(randomBase('random-smallest', SMALLEST))
  const prepared = await mkdtemp(join(tmpdir(), 'graft-bench-prepared-'))
  try {
    return (await start(base.dir, 'int4', prepared)).resident
  } finally {
    await base.remove()
    await rm(prepared, { recursive: true, force: true })
  }
}

async function measure(checkpoint: string, precision: string, floor: number) {
  const prepared = await mkdtemp(join(tmpdir(), 'graft-bench-prepared-'))
  try {
    const starts = [await start(checkpoint, precision, prepared)]
    starts.push(await start(checkpoint, precision, prepared))
    const [folder] = await readdir(prepared)
    const { size } = await stat(join(prepared, folder!, 'weights.bin'))
    const share = ({ resident, peak, ms }: Memory) => ({
      resident: Number(((resident - floor) / size).toFixed(3)),
      peak: Number(((peak - floor) / size).toFixed(3)),
      ms: Math.round(ms),
    })
    const [first, second] = starts.map(share)
    return { weights_mb: Math.round(size / 1e6), first: first!, second: second! }
  } finally {
    await rm(prepared, { recursive: true, force: true })
  }
}

function start(...args: string[]): Promise<Memory> {
  const child = spawn(
    process.execPath,
    [join(import.meta.dirname, 'base-memory/one-start.ts'), ...args],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  let out = ''
  child.stdout.on('data', (data) => {
    out += data
  })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) =>
      code === 0 ? resolve(JSON.parse(out) as Memory) : reject(new Error(`ended with ${code}`)),
    )
  })
}
