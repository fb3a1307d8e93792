import type { Sampling } from '@graft/sdk/protocol/runner-api.ts'
import { GREEDY } from '../../gpu-runner/helpers/greedy.ts'

/** One request of the comparison, for either side. */
export interface Request {
  promptIds: number[]
  seed: number
}

/** What either side gives: ids, text, and when its first and last token came (ms after the start). */
export interface Answer {
  tokenIds: number[]
  text: string
  firstMs: number
  lastMs: number
}

export type Mode = 'greedy' | 'top-p'

/** Both sides sample with these. */
export const SAMPLING = {
  greedy: { temperature: 0, topP: 1 },
  'top-p': { temperature: 0.8, topP: 0.95 },
} as const satisfies Record<Mode, { temperature: number; topP: number }>

export const samplingOf = (mode: Mode, seed: number): Sampling => ({
  ...GREEDY,
  ...SAMPLING[mode],
  seed,
})
