import type { Sample } from './samples.ts'

/** The tenants of the demo; each pays for its own calls. */
export const TENANTS = ['acme', 'globex', 'initech'] as const
export type Tenant = (typeof TENANTS)[number]

export interface DemoCall {
  tenant: Tenant
  /** What goes into `model`. */
  model: string
  /** Package name, or null for the base alone. */
  sample: string | null
  prompt: string
  /** Null where there is nothing to be exact about: the base's own answer. */
  expected: string | null
}

export const packageOf = (sample: string): string => `@samples/${sample}`

/** One held-out case for every sample, dealt to the tenants in turn, all sent at once. */
export function demoCalls(samples: Sample[], range = '^1'): DemoCall[] {
  return samples.flatMap((sample, i) => {
    const tenant = TENANTS[i % TENANTS.length]!
    return sample.prompts.slice(0, 1).map(({ prompt, expected }) => ({
      tenant,
      model: `${packageOf(sample.name)}@${range}`,
      sample: sample.name,
      prompt,
      expected,
    }))
  })
}

/** The same prompts to the base alone, by the same tenants. */
export const baseCalls = (calls: DemoCall[], base: string): DemoCall[] =>
  calls.map((call) => ({ ...call, model: base, sample: null, expected: null }))
