import { readAll } from '@graft/sdk/format/byte-source.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { parseStrictJson } from '@graft/sdk/format/strict-json.ts'
import { isPickle, pickled } from './pickle.ts'
import type { ConfigObject, Detected, OpenedFiles, SourceFiles } from './source-format.ts'

/** What three tools call their config: its content tells whose it is. */
const CONFIG = 'adapter_config.json'

const unknown = (message: string): GraftError => new GraftError('ERR_SOURCE_UNKNOWN', message)

/** Path of the folder's adapter_config.json; null when there is none. @throws ERR_SOURCE_UNKNOWN for several */
export function pickConfig(files: SourceFiles): string | null {
  const found = [...files.keys()].filter((path) => path === CONFIG || path.endsWith(`/${CONFIG}`))
  // The folder's own adapter wins over those of named sub-folders, as it does for the tools.
  if (found.includes(CONFIG)) return CONFIG
  if (found.length <= 1) return found[0] ?? null
  throw unknown(`${found.length} adapters found (${found.join(', ')}); import one folder at a time`)
}

/** @throws ERR_CONFIG_INVALID */
export async function readConfigFile(files: SourceFiles, path: string): Promise<ConfigObject> {
  const config = parseStrictJson(await readAll(files.get(path)!), path, 'ERR_CONFIG_INVALID')
  if (typeof config === 'object' && config !== null && !Array.isArray(config)) return config
  throw new GraftError('ERR_CONFIG_INVALID', `${path} must be a JSON object`)
}

/**
 * The folder of a tool that writes an adapter_config.json and weights beside it.
 * @param isOurs tells the tool's config from others of the same name
 * @throws ERR_PICKLE_REFUSED, ERR_SOURCE_UNKNOWN when the weights are absent
 */
export async function detectByConfig(
  { files, heads }: OpenedFiles,
  isOurs: (config: ConfigObject) => boolean,
  weights: { safe: string; pickle: string },
): Promise<Detected | null> {
  const configPath = pickConfig(files)
  if (configPath === null) return null
  const config = await readConfigFile(files, configPath)
  if (!isOurs(config)) return null
  const folder = configPath.slice(0, -CONFIG.length)
  const path = folder + weights.safe
  const head = heads.get(path)
  if (head === undefined && files.has(folder + weights.pickle))
    throw pickled(folder + weights.pickle)
  if (head === undefined)
    throw unknown(
      `${path} is absent beside ${configPath}; give the folder that the tool saved, whole, or save the adapter again`,
    )
  if (isPickle(head)) throw pickled(path)
  return { configPath, config, weightsPath: path }
}
