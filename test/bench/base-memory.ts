import { spawn } from 'node:child_process'
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Memory } from './base-memory/one-start.ts'
import { type Bench, NOTHING } from './bench.ts'
import { randomBase } from './random-base.ts'
import { writeRandomFolder } from './random-folder.ts'
import { SHAPES, type ShapeName } from './shapes.ts'

const PRECISIONS = ['fp32', 'int8', 'int4', 'nf4'] as const

/**
 * Memory of a prepared base in a process of its own, as a share of its weights at the serving precision: the first
 * start, which prepares it, and the second, which maps it. What the process takes without a base is taken off.
 */
export const baseMemory: Bench = {
  about: 'memory of a prepared base over its weights: first start, second start',
  needs: NOTHING,
  async run({ quick, progress }) {
    const shapes: ShapeName[] = quick ? ['135m'] : ['135m', '2048']
    const details: Record<string, unknown> = {}
    let [resident, peak] = [0, 0]
    for (const name of shapes) {
      const base = await writeRandomFolder(randomBase(`random-${name}`, SHAPES[name]))
      try {
        for (const precision of PRECISIONS) {
          const found = await measure(base.dir, precision)
          details[`${name} ${precision}`] = found
          resident = Math.max(resident, found.second.resident, found.first.resident)
          peak = Math.max(peak, found.first.peak, found.second.peak)
          progress(`${name} ${precision}: ${JSON.stringify(found)}`)
        }
      } finally {
        await base.remove()
      }
    }
    return { resident, peak, shapes: details }
  },
}

async function measure(checkpoint: string, precision: string) {
  const prepared = await mkdtemp(join(tmpdir(), 'graft-bench-prepared-'))
  try {
    const starts = [await start(checkpoint, precision, prepared)]
    starts.push(await start(checkpoint, precision, prepared))
    const [folder] = await readdir(prepared)
    const { size } = await stat(join(prepared, folder!, 'weights.bin'))
    const share = ({ without, resident, peak, ms }: Memory) => ({
      resident: Number(((resident - without) / size).toFixed(3)),
      peak: Number(((peak - without) / size).toFixed(3)),
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
