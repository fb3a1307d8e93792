import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, describe, expect, it } from 'vitest'
import { OFFLINE, WRANGLER } from '../../infra/dev-workers/wrangler.ts'

const ROOT = join(import.meta.dirname, '../..')
const folder = mkdtempSync(join(tmpdir(), 'graft-deploy-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const absent = !existsSync(WRANGLER)
if (absent) console.warn(`skipped: wrangler is not installed at ${WRANGLER}`)

/** What a deployment would bind, by name, as wrangler prints it. */
async function dryRun(env: string): Promise<Record<string, string>> {
  const args = ['deploy', '--dry-run', '--env', env, '--outdir', join(folder, env || 'graft')]
  const { stdout } = await promisify(execFile)(process.execPath, [WRANGLER, ...args], {
    cwd: ROOT,
    env: { ...process.env, ...OFFLINE, WRANGLER_LOG_PATH: join(folder, 'logs') },
  })
  const rows = stdout.matchAll(/^env\.(\w+) \((.*)\) +\S.*$/gm)
  return Object.fromEntries([...rows].map(([, name, what]) => [name, what]))
}

describe.skipIf(absent)('wrangler deploy', () => {
  const each = [
    {
      env: '',
      bound: {
        TENANT_BOOKS: 'TenantBookObject',
        FLEET: 'FleetObject',
        DB: 'graft-registry',
        BLOBS: 'graft-blobs',
        ROOMS: '"both"',
      },
    },
    {
      env: 'registry',
      bound: { DB: 'graft-registry', BLOBS: 'graft-blobs', ROOMS: '"registry"' },
    },
    {
      env: 'edge',
      bound: {
        TENANT_BOOKS: 'TenantBookObject, defined in graft',
        FLEET: 'FleetObject, defined in graft',
        REGISTRY: 'graft-registry',
        ROOMS: '"edge"',
      },
    },
  ]
  const shared = new Set(['ISSUER', 'OPERATOR_TENANT', 'CURRENCY', 'REGISTRY_URL'])
  for (const { env, bound } of each)
    it(`builds ${env ? `the ${env} apart` : 'all rooms in one'}, bound to what it needs and no more`, async () => {
      const rows = await dryRun(env)
      expect(rows['ISSUER']).toBe('"graft"')
      const own = Object.entries(rows).filter(([name]) => !shared.has(name))
      expect(Object.fromEntries(own)).toEqual(bound)
    }, 120_000)
})
