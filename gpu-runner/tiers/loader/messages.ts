import type { BaseTensor } from '@graft/sdk/format/base-identity.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import type { ErrorCode } from '@graft/sdk/format/errors.ts'
import type { LoadedAdapter } from '../../engine/engine.ts'
import type { AdapterFacts } from '../adapter-facts.ts'

export interface LoaderOptions {
  /** What an adapter's sites are held against. */
  base: readonly BaseTensor[]
}

/** Jobs by name: all of a load that takes more than a moment. */
export interface Jobs {
  /** Verifies a version record. */
  verify: { input: [record: Uint8Array, digest: Digest]; output: AdapterFacts }
  /** Reads a file into shared memory and hashes it; null when it is absent or of another size. */
  read: {
    input: [path: string, size: number]
    output: { file: Uint8Array; digest: Digest } | null
  }
  /** Proves tensors against a record that was verified. */
  prove: {
    input: [record: Uint8Array, digest: Digest, file: Uint8Array, fileDigest: Digest]
    output: undefined
  }
  /** Turns proven tensors into f32. */
  convert: {
    input: [record: Uint8Array, digest: Digest, file: Uint8Array, memory: SharedArrayBuffer]
    output: LoadedAdapter
  }
}
export type JobName = keyof Jobs

export interface Job {
  id: number
  name: JobName
  input: unknown[]
}

export type Reply =
  | { id: number; output: unknown }
  | { id: number; failure: { code: ErrorCode | null; message: string } }
