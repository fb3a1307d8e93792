import { expect, it } from 'vitest'
import { killLoop } from './kill-loop.ts'

it(
  'loses nothing, shows nothing by halves and leaves nothing behind when the server is killed',
  {
    timeout: 120_000,
  },
  async () => {
    const report = await killLoop(10)
    expect(report).toMatchObject({ broken: [], leftovers: [] })
    expect(report.kills.step).toBeGreaterThan(5)
    expect(report.published).toBeGreaterThan(5)
  },
)
