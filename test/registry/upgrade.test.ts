import { join } from 'node:path'
import { createNodeRegistry } from '@graft/registry/node/create-node-registry.ts'
import { openSqliteCatalogue, readMigrations } from '@graft/registry/node/sqlite-catalogue.ts'
import { signJwt } from '@graft/sdk/format/jws.ts'
import { expect, it } from 'vitest'
import { httpClient, ISSUER, SETUP_CODE, temporaryFolder } from './fixtures.ts'

const migrations = readMigrations(join(import.meta.dirname, '../../infra/migrations/registry'))

it.each(migrations.slice(0, -1).map(({ name }, i) => [name, i + 1] as const))(
  'a registry that was last started with %s keeps its people, roles and tokens',
  async (_, count) => {
    const folder = temporaryFolder()
    const options = { stateDir: folder.path, issuerName: ISSUER, setupCode: SETUP_CODE }
    const at = '2026-01-01T00:00:00.000Z'
    const old = openSqliteCatalogue(
      join(folder.path, 'registry.sqlite'),
      migrations.slice(0, count),
    )
    const row = (sql: string, ...params: (string | number)[]) => ({ sql, params })
    await old.batch([
      row('INSERT INTO setup (id, done_at) VALUES (1, ?)', at),
      row('INSERT INTO users (name, operator, created_at) VALUES (?, 1, ?)', 'ada', at),
      row('INSERT INTO users (name, operator, created_at) VALUES (?, 0, ?)', 'bob', at),
      row('INSERT INTO orgs (name, epoch, created_at) VALUES (?, 1, ?)', 'acme', at),
      row('INSERT INTO members VALUES (?, ?, ?, ?)', 'acme', 'ada', 'owner', at),
      row('INSERT INTO members VALUES (?, ?, ?, ?)', 'acme', 'bob', 'publisher', at),
      row(
        `INSERT INTO tokens (jti, org, user, name, scopes, created_at, expires_at)
         VALUES ('t1', 'acme', 'ada', 'old', '["read","admin"]', ?, '2099-01-01T00:00:00.000Z')`,
        at,
      ),
    ])
    old.close()
    const registry = await createNodeRegistry(options)
    const claims = { iss: ISSUER, sub: 'user:ada', tenant: 'acme', scopes: ['read', 'admin'] }
    const times = { jti: 't1', epoch: 1, iat: 1_767_225_600, exp: 4_070_908_800 }
    const token = await signJwt({ ...claims, ...times }, 'graft-access+jwt', registry.issuer)
    const call = httpClient(registry.app)
    const members = await call('GET', '/v1/orgs/acme/members', { token })
    expect(members.body.members).toEqual([
      { user: 'ada', role: 'owner', since: at },
      { user: 'bob', role: 'publisher', since: at },
    ])
    const raise = { user: 'bob', role: 'admin' }
    expect((await call('POST', '/v1/orgs/acme/members', { token, json: raise })).status).toBe(200)
    const { tokens } = (await call('GET', '/v1/tokens', { token })).body
    expect(tokens[0]).toMatchObject({ jti: 't1', name: 'old', lastUsedAt: expect.any(String) })
    const renewed = await call('POST', '/v1/tokens/t1/rotate', { token })
    expect(renewed.status).toBe(200)
    await registry.close()
    folder.clean()
  },
)
