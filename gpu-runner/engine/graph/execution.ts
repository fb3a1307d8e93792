/** Where a graph runs: which operators it may be written with, and where keys and values are held. */
export const EXECUTIONS = ['cpu', 'webgpu'] as const
export type Execution = (typeof EXECUTIONS)[number]
