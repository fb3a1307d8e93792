import type { BaseSites } from '@graft/sdk/format/base-sites.ts'
import type { TensorSource } from '@graft/sdk/format/tensor-source.ts'
import type { Loss } from '../exporter.ts'
import type { ConfigFields } from './export-config.ts'

export interface MethodContext {
  tensors: ReadonlyMap<string, TensorSource>
  /** PEFT's path of a site. */
  pathOf(site: string): string
  /** What stands in the base; null where it was not given. */
  sites: BaseSites | null
}

/** One PEFT type's share of adapter_config.json and of adapter_model.safetensors. */
export interface MethodExport {
  /** peft_type. */
  type: string
  tensors: Map<string, TensorSource>
  fields: ConfigFields
  losses: Loss[]
  notes: string[]
}
