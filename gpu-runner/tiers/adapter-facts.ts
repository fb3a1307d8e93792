import type { Digest } from '@graft/sdk/format/digest.ts'
import type { Goldens } from '@graft/sdk/format/manifest.ts'
import type { OperationKind } from '@graft/sdk/format/operations.ts'

/**
 * What a runner needs to know of a version whose signatures and digest hold. Small on purpose: tables of tensors stay
 * in the record's bytes, so that a thousand adapters cost no heap of objects.
 */
export interface AdapterFacts {
  digest: Digest
  /** `@acme/sql`. */
  name: string
  version: string
  base: { name: string; digest: Digest }
  /** The file with the tensors. */
  file: { digest: Digest; size: number }
  /** null when nobody signed any. */
  goldens: Goldens | null
  /** One operation of every kind that it needs of an engine (kindToRun), for checks and messages. */
  operations: { op: OperationKind; site: string }[]
  /** Positions that virtual tokens take. */
  virtualTokens: number
  /** Of all tensors as f32. */
  f32Bytes: number
  /** Of what the engine compiles, as f32: dense operations that it runs as factors are as large as these. */
  runBytes: number
}

export const labelOf = ({ name, version }: AdapterFacts): string => `${name}@${version}`
