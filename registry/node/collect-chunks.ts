import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** Dead chunks that may wait; a collection of the young generation takes about a millisecond. */
const COLLECT_BYTES = 8 * 1024 * 1024

setFlagsFromString('--expose-gc')
const gc = runInNewContext('gc') as (options: { type: 'minor' }) => void

let passed = 0

/**
 * To be told of every chunk that a stream passes on. V8 sees a chunk of a socket or a file as some dozen bytes of its young
 * generation, whatever lies behind it, so that of a large transfer 60 MB and more of dead chunks pile up before it looks;
 * this makes it look in time.
 */
export function countChunk(bytes: number): void {
  passed += bytes
  if (passed < COLLECT_BYTES) return
  passed = 0
  gc({ type: 'minor' })
}
