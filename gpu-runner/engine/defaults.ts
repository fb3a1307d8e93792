/** What an engine is opened with where nothing else is said. */
export const ENGINE_DEFAULTS = {
  precision: 'fp32',
  execution: 'cpu',
  /** Most sequences open at once. */
  slots: 32,
  /** Threads of one operator. */
  threads: 2,
  bankBudgetBytes: 2 ** 30,
  kvPrecision: 'fp32',
  kvBudgetBytes: 2 ** 30,
  prefixBudgetBytes: 2 ** 28,
  bankPrecision: 'fp32',
} as const
