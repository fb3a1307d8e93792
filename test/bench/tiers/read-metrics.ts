import type { Runner } from '@graft/runner/app.ts'

/** The runner's own counters and gauges now; 0 for a series that has none yet. */
export async function readMetrics(runner: Runner): Promise<(series: string) => number> {
  const text = await (await runner.fetch(new Request('http://bench/metrics'))).text()
  const rows = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  const values = new Map(
    rows.map((line): [string, number] => {
      const at = line.lastIndexOf(' ')
      return [line.slice(0, at), Number(line.slice(at + 1))]
    }),
  )
  return (series) => values.get(series) ?? 0
}
