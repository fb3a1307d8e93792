import type { Digest } from './digest.ts'

/**
 * What a caller may put after "model": a base by name, one adapter, or a weighted sum of adapters.
 *   graft-tiny | @acme/sql@^1.2 | @acme/sql@latest | @acme/sql@sha256:... | 0.7(@a/x@^1)+0.3(@b/y@2)
 */
export interface AdapterReference {
  /** `@scope/name`. */
  package: string
  selector:
    | { kind: 'range'; range: string }
    | { kind: 'tag'; tag: string }
    | { kind: 'digest'; digest: Digest }
}

export type ModelReference =
  | { kind: 'base'; name: string }
  | { kind: 'adapters'; terms: { reference: AdapterReference; weight: string }[] }
