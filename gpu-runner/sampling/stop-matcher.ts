export interface StopMatcher {
  /** Takes text; gives what can no longer be part of a stop string, and the stop string once one is complete. */
  push(text: string): { text: string; stop: string | null }
  /** What was held back, when the answer ends for another reason. */
  flush(): string
}

/** Longest suffix of `text` that begins one of the stop strings. */
function heldLength(text: string, stops: readonly string[]): number {
  let held = 0
  for (const stop of stops)
    for (let size = Math.min(stop.length - 1, text.length); size > held; size--)
      if (stop.startsWith(text.slice(text.length - size))) held = size
  return held
}

/** Finds the earliest stop string across token boundaries; of several at one place the one listed first. */
export function createStopMatcher(stops: readonly string[]): StopMatcher {
  let held = ''
  return {
    push(text) {
      const all = held + text
      let at = -1
      let found: string | null = null
      for (const stop of stops) {
        const place = all.indexOf(stop)
        if (place >= 0 && (at < 0 || place < at)) {
          at = place
          found = stop
        }
      }
      if (found !== null) {
        held = ''
        return { text: all.slice(0, at), stop: found }
      }
      const keep = heldLength(all, stops)
      held = all.slice(all.length - keep)
      return { text: all.slice(0, all.length - keep), stop: null }
    },
    flush() {
      const rest = held
      held = ''
      return rest
    },
  }
}
