import { homedir } from 'node:os'
import { join } from 'node:path'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { readIfThere, writeFileAtomically } from './files.ts'

/** `config.json` of the home folder, mode 0600 because it holds a token. */
export interface StoredConfig {
  registry?: string
  edge?: string
  token?: string
  /** How the token came: one from a browser is this machine's own and ends with `graft logout`. */
  tokenFrom?: 'browser' | 'stdin'
}

/** Where `npm start` listens. */
const DEFAULTS = { registry: 'http://127.0.0.1:8788', edge: 'http://127.0.0.1:8787' }

export interface Config {
  /** Folder of config.json and keys/. */
  home: string
  registry: string
  edge: string
  token: string | undefined
  stored: StoredConfig
}

type Env = Record<string, string | undefined>

/** GRAFT_HOME, else the platform's place for settings. */
export const homeOf = (env: Env): string =>
  env['GRAFT_HOME'] || join(env['XDG_CONFIG_HOME'] || join(homedir(), '.config'), 'graft')

/** Flag, then environment, then what `graft login` kept, then the local stack. */
export async function loadConfig(
  env: Env,
  flags: { registry?: string; edge?: string },
): Promise<Config> {
  const home = homeOf(env)
  const stored = await readStored(home)
  return {
    home,
    registry: flags.registry || env['GRAFT_REGISTRY'] || stored.registry || DEFAULTS.registry,
    edge: flags.edge || env['GRAFT_EDGE'] || stored.edge || DEFAULTS.edge,
    token: env['GRAFT_TOKEN'] || stored.token,
    stored,
  }
}

const configPath = (home: string): string => join(home, 'config.json')

async function readStored(home: string): Promise<StoredConfig> {
  const bytes = await readIfThere(configPath(home))
  if (bytes === null) return {}
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) as StoredConfig
  } catch (cause) {
    throw new GraftError(
      'ERR_STATE_DAMAGED',
      `${configPath(home)} must be JSON; repair or remove it, then graft login`,
      { cause },
    )
  }
}

export const saveConfig = (home: string, stored: StoredConfig): Promise<void> =>
  writeFileAtomically(configPath(home), `${JSON.stringify(stored, null, 2)}\n`, 0o600)
