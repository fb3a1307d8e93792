import type { BaseTensor } from '@graft/sdk/format/base-identity.ts'
import type { ByteSource } from '@graft/sdk/format/byte-source.ts'
import type { Manifest, Origin } from '@graft/sdk/format/manifest.ts'
import type { TensorSource } from '@graft/sdk/format/tensor-source.ts'
import type { ConfigObject } from './source-format.ts'

/** An adapter whose tensors are read when they are needed. */
export interface OpenAdapter {
  manifest: Manifest
  tensors: ReadonlyMap<string, TensorSource>
}

/** Something that the target cannot hold exactly. */
export interface Loss {
  site: string
  /** `scale`, `dtype`, ... */
  field: string
  /** In words: what became of it. */
  what: string
  /** Largest absolute error of a stored value. */
  maxAbsError: number
}

export interface Exported {
  files: Map<string, ByteSource>
  /** Empty when the files compute the same. */
  losses: Loss[]
  /** What a user should know and changes nothing: ranks padded with zeros. */
  notes: string[]
}

export interface ExportContext {
  /** The base's headers and config.json, for formats that need them. */
  base?: { tensors: readonly BaseTensor[]; config?: ConfigObject }
}

/** One tool's way out. Each tool has a folder with one of these. */
export interface Exporter {
  format: Origin['format']
  /** The files of an adapter that came from this tool, byte for byte. @throws ERR_MANIFEST_INVALID, ERR_TENSOR_MISSING */
  rebuild(adapter: OpenAdapter): Promise<Map<string, ByteSource>>
  /**
   * Files of this tool from the operations of any adapter.
   * @throws ERR_METHOD_UNSUPPORTED naming the operation that the format cannot hold
   */
  export(adapter: OpenAdapter, context: ExportContext): Promise<Exported>
}
