import type { Digest } from '@graft/sdk/format/digest.ts'
import type { Engine, LoadedAdapter } from '../engine/engine.ts'

/** What a form is made of; the signal is aborted when nobody waits for it any more. */
export interface FormBuild {
  adapter(signal: AbortSignal): Promise<LoadedAdapter>
  /** Runs on the merged engine before anybody else does; what it throws refuses the form. */
  prove(merged: Engine, signal: AbortSignal): Promise<void>
}

/** Where adapters stand that no batch can run: second copies of the base, each with one of them in its weights. */
export interface MergedForms {
  /** Pins the adapter's form: it stays until this is released. Null when there is none for new answers. */
  use(digest: Digest): (() => void) | null
  /**
   * Builds the form and pins it. Forms that nobody uses leave for it, and when all are used it waits.
   * @throws ERR_BANK_FULL when none left in time, ERR_OPERATION_UNSUPPORTED, and what `build` throws
   */
  pin(digest: Digest, build: FormBuild, signal: AbortSignal): Promise<() => void>
  /** Adapters whose new answers run on their forms. */
  entries(): Digest[]
}
