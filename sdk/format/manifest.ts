import type { Digest } from './digest.ts'
import type { Operation } from './operations.ts'

export const MANIFEST_SCHEMA = 'graft.adapter/1'

/** What a base *is*: bytes, not a name. Digests are of file bytes; structures of sorted "name\tdtype\tshape\n" lines. */
export interface BaseIdentity {
  /** For people only: `graft-tiny`. */
  name: string
  /** `LlamaForCausalLM`; the first of config.json's architectures. */
  architecture: string
  /** config.json's model_type. */
  modelType: string
  /** Weight files by path, sorted. */
  files: { path: string; size: number; sha256: Digest }[]
  /** Over names and shapes. */
  structure: Digest
  /** Over names, dtypes and shapes. */
  structureWithDtype: Digest
  configDigest: Digest
  tokenizerDigest: Digest | null
  quantization: { method: string; bits: number; group: number } | null
}

/** One tensor of adapter.safetensors; sha256 of its little-endian C-order bytes. */
export interface TensorRow {
  name: string
  dtype: string
  shape: number[]
  sha256: Digest
}

export interface FileRow {
  path: string
  size: number
  sha256: Digest
  role: 'canonical' | 'origin' | 'card'
  mediaType: string
}

/** How one source tensor became a canonical one. */
export interface KeyRow {
  /** Name in the source file. */
  key: string
  /** Canonical tensor. */
  tensor: string
  /** SPEC.md section 2 lists them. */
  transform: string
  /** Source file, where the tool wrote more than one. */
  file?: string
}

/** A source tensor that is not canonical and is small: Kohya's `.alpha`. */
export interface LiteralTensor {
  key: string
  dtype: string
  shape: number[]
  /** Its bytes, base64. */
  data: string
  file?: string
}

/** What the author's tool wrote, so that export can rebuild the exact bytes. */
export interface Origin {
  format: 'peft' | 'adapters' | 'gguf' | 'mlx' | 'kohya' | 'onnx' | 'graft'
  toolVersion: string | null
  /** Source config file's bytes, base64; empty for tools that write none. */
  config: string
  keyMap: KeyRow[]
  /** Source safetensors __metadata__. */
  metadata: Record<string, string>
  /** Names of the metadata as the source has them, where that is not the order of their bytes: some writers shuffle them. */
  metadataOrder?: string[]
  /** The source file's bytes before its tensor data, base64, where no rule gives them. */
  header?: string
  literals?: LiteralTensor[]
  /** Further small files that the tool wrote, base64. */
  files?: { path: string; data: string }[]
}

/** adapter.json, stored as RFC 8785 bytes. Its sha256 is the version's digest. */
export interface Manifest {
  schema: typeof MANIFEST_SCHEMA
  /** `@scope/name`. */
  name: string
  version: string
  description?: string
  /** SPDX expression. */
  license?: string
  keywords?: string[]
  base: BaseIdentity
  /** Evidence for people and policies; operations are the truth. */
  method: { family: string; flags: string[] }
  operations: Operation[]
  tensors: TensorRow[]
  files: FileRow[]
  origin: Origin | null
  /** Names of fields that a reader must understand or refuse the manifest. */
  crit: string[]
  /** Informative only; nothing of it may change inference. */
  training?: Record<string, unknown>
}

/** JWS general serialisation (RFC 7515 section 7.2.1): one payload, several signatures. */
export interface SignedEnvelope {
  payload: string
  signatures: { protected: string; signature: string }[]
}

/** The `typ` of each thing Graft signs: a signature for one can never be replayed as another. */
export const JWS_TYPES = {
  manifest: 'graft-manifest+jws',
  attestation: 'graft-attestation+jws',
  receipt: 'graft-receipt+jws',
  runnerReceipt: 'graft-runner-receipt+jws',
  accessToken: 'graft-access+jwt',
  capability: 'graft-capability+jwt',
  fleet: 'graft-fleet+jwt',
} as const
export type JwsType = (typeof JWS_TYPES)[keyof typeof JWS_TYPES]

/** in-toto Statement v1 about a manifest's digest. */
export interface Statement<P = unknown> {
  _type: 'https://in-toto.io/Statement/v1'
  subject: { name: string; digest: { sha256: string } }[]
  predicateType: string
  predicate: P
}

export const GOLDENS_PREDICATE = 'urn:graft:predicate:goldens:v1'
export const ADMISSION_PREDICATE = 'urn:graft:predicate:admission:v1'

/** Logits stand in a safetensors blob: `base.<i>` and `adapted.<i>`, f32 [positions, vocab], for prompt i. */
export interface Goldens {
  /** `peft@0.21.2`. */
  producer: string
  basePrecision: string
  logits: { sha256: Digest; size: number }
  prompts: {
    tokenIds: number[]
    /** Positions of the prompt whose logits are in the blob, ascending; empty when only greedy tokens are held. */
    positions: number[]
    /** Greedy continuation and its top1 - top2 logit margins. */
    greedy: { tokenIds: number[]; margins: number[] }
  }[]
}
