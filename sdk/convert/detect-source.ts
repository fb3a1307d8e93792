import { GraftError } from '@graft/sdk/format/errors.ts'
import { type Json, parseStrictJson } from '@graft/sdk/format/strict-json.ts'

export type SourceFiles = ReadonlyMap<string, Uint8Array>
export type ConfigObject = { readonly [key: string]: Json }

export interface DetectedSource {
  format: 'peft' | 'adapters'
  /** Path of the config file in the folder, and what it holds. */
  configPath: string
  config: ConfigObject
  /** Path of the safetensors file beside it. */
  weightsPath: string
}

const CONFIG = 'adapter_config.json'

const unknown = (message: string): GraftError => new GraftError('ERR_SOURCE_UNKNOWN', message)

const startsWith = (bytes: Uint8Array | undefined, magic: readonly number[], at = 0): boolean =>
  bytes !== undefined && magic.every((byte, i) => bytes[at + i] === byte)

/** A zip or a pickle, whatever the file is called: torch.save writes both. */
const isPickle = (bytes: Uint8Array): boolean =>
  startsWith(bytes, [0x50, 0x4b, 0x03, 0x04]) || startsWith(bytes, [0x80, 0x02])

const pickled = (path: string): GraftError =>
  new GraftError(
    'ERR_PICKLE_REFUSED',
    `${path} is a pickle, which can run code when it is read. Save again as safetensors (PEFT: save_pretrained(dir), adapters: save_adapter(dir, name, use_safetensors=True)), or convert: safetensors.torch.save_file({k: v.clone() for k, v in torch.load("${path}", weights_only=True).items()}, out)`,
  )

/** Adapter formats that have no importer yet, by their content. */
function nameOther(files: SourceFiles): string | null {
  for (const [path, bytes] of files) {
    if (startsWith(bytes, [0x47, 0x47, 0x55, 0x46])) return `${path} is GGUF`
    if (startsWith(bytes, [0x54, 0x4f, 0x52, 0x54], 4)) return `${path} is an .onnx_adapter`
    if (path.endsWith('.nemo')) return `${path} is NeMo`
    if (path.endsWith('.safetensors') && /"lora_(?:unet|te\d?)_/.test(headerText(bytes)))
      return `${path} is Kohya`
  }
  return null
}

const headerText = (bytes: Uint8Array): string =>
  new TextDecoder().decode(bytes.subarray(8, 8 + 65_536))

function pickConfig(files: SourceFiles): string {
  const found = [...files.keys()].filter((path) => path === CONFIG || path.endsWith(`/${CONFIG}`))
  // The folder's own adapter wins over those of named sub-folders, as it does for the tools.
  if (found.includes(CONFIG)) return CONFIG
  if (found.length === 1) return found[0]!
  if (found.length > 1)
    throw unknown(
      `${found.length} adapters found (${found.join(', ')}); import one folder at a time`,
    )
  const other = nameOther(files)
  const pickle = [...files].find(([, bytes]) => isPickle(bytes))?.[0]
  if (other === null && pickle !== undefined) throw pickled(pickle)
  throw unknown(
    other === null
      ? `no ${CONFIG} among ${files.size} files; give the folder that PEFT or AdapterHub saved`
      : `${other}, which has no importer yet; save the adapter with PEFT or AdapterHub`,
  )
}

function formatOf(config: ConfigObject, path: string): 'peft' | 'adapters' {
  // Three tools write a file of this name: its content tells, never its name.
  if (typeof config['peft_type'] === 'string') return 'peft'
  if ('fine_tune_type' in config || 'lora_parameters' in config)
    throw unknown(`${path} is MLX's, which has no importer yet; save the adapter with PEFT`)
  if ('config' in config && 'model_type' in config) return 'adapters'
  throw unknown(
    `${path} is neither PEFT's (peft_type) nor AdapterHub's (config, model_type); its keys are ${Object.keys(config).slice(0, 8).join(', ')}`,
  )
}

const WEIGHTS = {
  peft: { safe: 'adapter_model.safetensors', pickle: 'adapter_model.bin' },
  adapters: { safe: 'adapter.safetensors', pickle: 'pytorch_adapter.bin' },
} as const

/**
 * What tool wrote a folder, told by content.
 * @throws ERR_SOURCE_UNKNOWN, ERR_PICKLE_REFUSED, ERR_CONFIG_INVALID
 */
export function detectSource(files: SourceFiles): DetectedSource {
  const configPath = pickConfig(files)
  const config = parseStrictJson(files.get(configPath)!, configPath, 'ERR_CONFIG_INVALID')
  if (typeof config !== 'object' || config === null || Array.isArray(config))
    throw new GraftError('ERR_CONFIG_INVALID', `${configPath} must be a JSON object`)
  const format = formatOf(config, configPath)
  const folder = configPath.slice(0, -CONFIG.length)
  const { safe, pickle } = WEIGHTS[format]
  const weights = files.get(folder + safe)
  if (weights === undefined && files.has(folder + pickle)) throw pickled(folder + pickle)
  if (weights === undefined) throw unknown(`${folder}${safe} is absent beside ${configPath}`)
  if (isPickle(weights)) throw pickled(folder + safe)
  return { format, configPath, config, weightsPath: folder + safe }
}
