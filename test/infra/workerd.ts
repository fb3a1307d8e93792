import { join } from 'node:path'
import { readMigrations } from '@graft/registry/node/sqlite-catalogue.ts'
import { exportSigningKey, generateSigningKey } from '@graft/sdk/format/jws.ts'
import { convertV4MiniflareOptions, Miniflare } from 'miniflare'
import { unstable_readConfig } from 'wrangler'
import { bundleWorker } from '../bundle-worker.ts'

const ROOT = join(import.meta.dirname, '../..')
export const SETUP_CODE = 'let-me-in'

/** What is read here of wrangler's own reading of wrangler.toml; its types name a package that it does not install. */
interface Config {
  name: string
  compatibility_date: string
  compatibility_flags: string[]
  vars: Record<string, string>
  d1_databases: { binding: string; database_name: string }[]
  r2_buckets: { binding: string; bucket_name: string }[]
  durable_objects: { bindings: { name: string; class_name: string; script_name?: string }[] }
  services?: { binding: string; service: string }[]
}

/** The Worker of one environment of wrangler.toml, with its own bindings and vars and no others. */
function workerOf(env: string | undefined, bundle: string, secrets: Record<string, string>) {
  const config = unstable_readConfig(
    { config: join(ROOT, 'wrangler.toml'), ...(env ? { env } : {}) },
    { hideWarnings: true },
  ) as unknown as Config
  const objects = config.durable_objects.bindings.map(({ name, class_name, script_name }) => [
    name,
    {
      className: class_name,
      useSQLite: true,
      ...(script_name ? { scriptName: script_name } : {}),
    },
  ])
  return {
    name: config.name,
    modules: [{ type: 'ESModule' as const, path: 'worker.mjs', contents: bundle }],
    compatibilityDate: config.compatibility_date,
    compatibilityFlags: config.compatibility_flags,
    d1Databases: Object.fromEntries(config.d1_databases.map((d) => [d.binding, d.database_name])),
    r2Buckets: Object.fromEntries(config.r2_buckets.map((r) => [r.binding, r.bucket_name])),
    durableObjects: Object.fromEntries(objects),
    serviceBindings: Object.fromEntries((config.services ?? []).map((s) => [s.binding, s.service])),
    bindings: { ...config.vars, ...secrets },
  }
}

/** The three Workers of wrangler.toml in one workerd, everything in memory, D1 migrated. */
export async function openWorkers() {
  const bundle = await bundleWorker('infra/worker.ts')
  const newKey = async () => JSON.stringify(await exportSigningKey(await generateSigningKey()))
  const fleetKey = await generateSigningKey()
  const registrySecrets = { ISSUER_KEY: await newKey(), LOG_KEY: await newKey(), SETUP_CODE }
  const edgeSecrets = {
    RECEIPT_KEY: await newKey(),
    FLEET_KEY: JSON.stringify(await exportSigningKey(fleetKey)),
  }
  const miniflare = new Miniflare(
    convertV4MiniflareOptions({
      workers: [
        workerOf(undefined, bundle, { ...registrySecrets, ...edgeSecrets }),
        workerOf('registry', bundle, registrySecrets),
        workerOf('edge', bundle, edgeSecrets),
      ],
    } as never),
  )
  const url = (await miniflare.ready).origin
  const db = await miniflare.getD1Database('DB', 'graft')
  const statements = readMigrations(join(ROOT, 'infra/migrations/registry')).flatMap(({ sql }) =>
    sql
      .replace(/--.*$/gm, '')
      .split(';')
      .map((text) => text.trim()),
  )
  await db.batch(statements.filter(Boolean).map((text) => db.prepare(text)))
  return {
    url,
    fleetKey,
    /** Speaks to the Worker of one room. */
    async fetchRoom(name: 'graft-registry' | 'graft-edge', path: string, init?: RequestInit) {
      const worker = await miniflare.getWorker(name)
      return (await worker.fetch(`http://room.test${path}`, init as never)) as unknown as Response
    },
    close: () => miniflare.dispose(),
  }
}
