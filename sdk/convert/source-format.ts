import type { BaseTensor } from '@graft/sdk/format/base-identity.ts'
import type { ByteSource } from '@graft/sdk/format/byte-source.ts'
import type { BaseIdentity, Origin } from '@graft/sdk/format/manifest.ts'
import type { Json } from '@graft/sdk/format/strict-json.ts'
import type { Compiled } from './compiled.ts'

export type ConfigObject = { readonly [key: string]: Json }

/** A folder that a tool saved: its files by path. */
export type SourceFiles = ReadonlyMap<string, ByteSource>

/** The folder with the first bytes of each file, which tell formats apart without reading the files. */
export interface OpenedFiles {
  files: SourceFiles
  heads: ReadonlyMap<string, Uint8Array>
}

export interface Detected {
  /** Path of the config file, and what it holds; null for formats without one. */
  configPath: string | null
  config: ConfigObject
  /** Path of the weights. */
  weightsPath: string
  /** Further paths that play a part. */
  others?: readonly string[]
}

export interface ImportBase {
  identity: BaseIdentity
  tensors: readonly BaseTensor[]
  /** The base's config.json, for formats that permute by its head counts (GGUF). */
  config?: ConfigObject
}

/** What one tool's files are known by and how they are read. Each tool has a folder with one of these. */
export interface SourceFormat {
  format: Origin['format']
  /** The tool's name, for people. */
  tool: string
  /**
   * Whether the folder is this tool's, by content: three tools write a file called adapter_config.json.
   * @returns null when it is not
   * @throws when it is and cannot be read: ERR_PICKLE_REFUSED, ERR_SOURCE_UNKNOWN for weights that are absent
   */
  detect(opened: OpenedFiles): Promise<Detected | null>
  /** @throws ERR_METHOD_UNSUPPORTED, ERR_CONFIG_*, ERR_TENSOR_*, ERR_BASE_*, ERR_SAFETENSORS_INVALID */
  import(detected: Detected, files: SourceFiles, base: ImportBase): Promise<Compiled>
}
