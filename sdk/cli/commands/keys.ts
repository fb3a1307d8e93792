import { generateSigningKey } from '@graft/sdk/format/jws.ts'
import { type CliContext, registryOf } from '../context.ts'
import { keyPath, localKeys, saveKey } from '../key-files.ts'
import { table } from '../text.ts'

/** `graft keys generate`: the private half stays in the home folder, the public one goes to the organisation. */
export async function generateKeyCommand(
  context: CliContext,
  flags: { org?: string; register: boolean; alg?: 'Ed25519' | 'ES256' },
): Promise<void> {
  const { config, output } = context
  const key = await generateSigningKey(flags.alg)
  await saveKey(config.home, key)
  const file = keyPath(config.home, key.kid)
  let org: string | null = null
  if (flags.register && config.token) {
    const registry = registryOf(context)
    org = flags.org ?? (await registry.whoami()).tenant
    await registry.addKey(org, key.publicJwk)
  }
  output.result({ kid: key.kid, alg: key.alg, file, org, jwk: key.publicJwk }, () => `${key.kid}\n`)
  output.log(
    org
      ? `private key in ${file}; public key registered for ${org}`
      : `private key in ${file}; not registered (no token or --no-register)`,
  )
}

/** `graft keys list`: keys of this machine and of the organisation. */
export async function listKeysCommand(context: CliContext, flags: { org?: string }): Promise<void> {
  const { config, output } = context
  const local = await localKeys(config.home)
  const registry = registryOf(context)
  const org = flags.org ?? (config.token ? (await registry.whoami()).tenant : null)
  const registered = org ? await registry.keys(org) : []
  const kids = [...new Set([...local, ...registered.map(({ kid }) => kid)])]
  const keys = kids.map((kid) => ({
    kid,
    local: local.includes(kid),
    status: registered.find((key) => key.kid === kid)?.status ?? 'unregistered',
  }))
  output.result({ org, keys }, () =>
    table(
      ['key', 'here', `at ${org ?? 'no organisation'}`],
      keys.map(({ kid, local: here, status }) => [kid, here ? 'yes' : 'no', status]),
    ),
  )
}
