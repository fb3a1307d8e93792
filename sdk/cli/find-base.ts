import type { RegistryClient } from '@graft/sdk/client/registry-client.ts'
import { isDigest } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { BaseRecord } from '@graft/sdk/protocol/registry-api.ts'

/**
 * The base an adapter was trained on: as the user named it, or by the name that the training tool wrote down.
 * A name is only a hint; the import then proves that every tensor fits.
 */
export async function findBase(
  registry: RegistryClient,
  config: Uint8Array | null,
  wanted: string | undefined,
): Promise<BaseRecord> {
  if (wanted && isDigest(wanted)) return registry.base(wanted)
  const name = wanted ?? nameInConfig(config)
  if (name === null)
    throw new GraftError(
      'ERR_BASE_UNKNOWN',
      `the adapter does not name its base: say which with --base <digest, name or folder>${await known(registry)}`,
    )
  const found = await registry.bases(name)
  if (found.length === 1) return registry.base(found[0]!.digest)
  const which = found.map(({ digest }) => `\n  ${digest}`).join('')
  throw new GraftError(
    'ERR_BASE_UNKNOWN',
    found.length > 1
      ? `${found.length} bases are called "${name}": say which with --base <digest>${which}`
      : `no base is called "${name}" at ${registry.url}: say which with --base <digest, name or folder>${await known(registry)}`,
  )
}

async function known(registry: RegistryClient): Promise<string> {
  const names = (await registry.bases()).map(({ identity }) => identity.name)
  return names.length > 0
    ? `; it knows ${[...new Set(names)].join(', ')}`
    : '; it knows no base yet'
}

/** Last part of PEFT's `base_model_name_or_path`, AdapterHub's `model_name` or MLX' `model`. */
function nameInConfig(bytes: Uint8Array | null): string | null {
  if (!bytes) return null
  try {
    const config = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>
    const path = config['base_model_name_or_path'] ?? config['model_name'] ?? config['model']
    const name = typeof path === 'string' ? path.split(/[\\/]/).filter(Boolean).at(-1) : undefined
    return name ?? null
  } catch {
    // The import says what is wrong with it, in full.
    return null
  }
}
