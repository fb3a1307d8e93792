import type { Output } from './output.ts'
import { bytes } from './text.ts'

const WIDTH = 24
/** Often enough to look alive, seldom enough to cost nothing. */
const REDRAW_MS = 80

/** A bar with bytes and rate on stderr, only on a terminal; elsewhere it says nothing. */
export function createBar(
  output: Output,
  label: string,
  now: () => number = performance.now.bind(performance),
) {
  const begin = now()
  let drawn = 0
  return (done: number, total: number): void => {
    if (!output.live || total === 0) return
    const at = now()
    if (at - drawn < REDRAW_MS && done < total) return
    drawn = at
    const filled = Math.round((WIDTH * Math.min(done, total)) / total)
    const bar = `${'#'.repeat(filled)}${'.'.repeat(WIDTH - filled)}`
    const rate = bytes(Math.round(done / Math.max(0.001, (at - begin) / 1000)))
    output.progress(`${label} [${bar}] ${bytes(done)} of ${bytes(total)}, ${rate}/s`)
  }
}
