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

/** One held-out case for every sample, a different one each, dealt to the tenants in turn. */
export function demoCalls(samples: Sample[], range = '^1'): DemoCall[] {
  return samples.flatMap((sample, i) => {
    const held = sample.prompts[i % sample.prompts.length]
    // A sample that gets nothing right has no case to show.
    if (!held) return []
    return {
      tenant: TENANTS[i % TENANTS.length]!,
      model: `${packageOf(sample.name)}@${range}`,
      sample: sample.name,
      prompt: held.prompt,
      expected: held.expected,
    }
  })
}

/** The same prompts to the base alone, by the same tenants. */
export const baseCalls = (calls: DemoCall[], base: string): DemoCall[] =>
  calls.map((call) => ({ ...call, model: base, sample: null, expected: null }))
