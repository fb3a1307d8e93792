import type { MemoryReport } from './report-memory.ts'
import type { SoakedRunner } from './runner.ts'

export interface Sample extends MemoryReport {
  /** Hours since the traffic began. */
  hours: number
}

const PERIOD_MS = 5_000
const MIB = 2 ** 20

/** Takes the runner's memory every five seconds. */
export function watchRunner(runner: SoakedRunner) {
  const samples: Sample[] = []
  const begin = performance.now()
  let looking = Promise.resolve()
  const look = async (): Promise<void> => {
    const memory = await runner.memory()
    samples.push({ ...memory, hours: (performance.now() - begin) / 3_600_000 })
  }
  const timer = setInterval(() => {
    looking = looking.then(look).catch(() => {})
  }, PERIOD_MS)
  return {
    samples,
    async stop() {
      clearInterval(timer)
      await looking
    },
  }
}

/** Least squares over samples later than `warmUpHours`: MiB per hour, and its standard error. */
export function slope(
  samples: readonly Sample[],
  what: 'rss' | 'heapUsed' | 'external',
  warmUpHours: number,
): { mib_per_hour: number; standard_error: number } | null {
  const points = samples.filter(({ hours }) => hours >= warmUpHours)
  if (points.length < 3) return null
  const mean = (of: (point: Sample) => number) =>
    points.reduce((sum, point) => sum + of(point), 0) / points.length
  const [x, y] = [mean((p) => p.hours), mean((p) => p[what] / MIB)]
  const xx = points.reduce((sum, p) => sum + (p.hours - x) ** 2, 0)
  const gradient = points.reduce((sum, p) => sum + (p.hours - x) * (p[what] / MIB - y), 0) / xx
  const rest = points.reduce(
    (sum, p) => sum + (p[what] / MIB - y - gradient * (p.hours - x)) ** 2,
    0,
  )
  const error = Math.sqrt(rest / (points.length - 2) / xx)
  return { mib_per_hour: Number(gradient.toFixed(2)), standard_error: Number(error.toFixed(2)) }
}
