import type { LoraKeys } from './lora-modules.ts'

/**
 * PEFT's target_parameters: each adapted parameter of a module is a wrapper around the module, so the keys of all but
 * the last say `base_layer`. A [rank * experts, in] counts experts slowest, B [out, rank * experts] fastest.
 */
export interface Wrapper {
  /** How many `base_layer` follow the module's path; the parameter registered first is wrapped first and lies deepest. */
  depth: number
  keys: LoraKeys
}

export interface AdaptedParameter extends Wrapper {
  /** Path of the module as the adapter names it, the parameter, and the module's site in the base. */
  path: string
  name: string
  site: string
}
