import { join } from 'node:path'
import { DEFAULT_LIMITS, type RegistryDeps } from '@graft/registry/deps.ts'
import { openFileBlobs } from '@graft/registry/node/file-blobs.ts'
import { openSqliteCatalogue, readMigrations } from '@graft/registry/node/sqlite-catalogue.ts'
import { type Choice, chooseVersion } from '@graft/registry/resolve/choose-version.ts'
import { type Demands, NO_DEMANDS } from '@graft/registry/resolve/demands.ts'
import { operationMask } from '@graft/registry/resolve/operation-mask.ts'
import { sortKey } from '@graft/registry/resolve/version-order.ts'
import { type SqlValue, sql } from '@graft/registry/stores/catalogue.ts'
import { type Digest, sha256 } from '@graft/sdk/format/digest.ts'
import { generateSigningKey } from '@graft/sdk/format/jws.ts'
import type { OperationKind } from '@graft/sdk/format/operations.ts'
import { temporaryFolder } from './fixtures.ts'

/** A version as choosing sees it; what is left out is a plain LoRA that fits everything. */
export interface Shelved {
  version: string
  base?: Digest
  operations?: OperationKind[]
  maxRank?: number
  license?: string
  publishedAt?: string
  yanked?: string
  deprecated?: string
  tombstoned?: string
  /** As a row that was written before migration 0003. */
  unordered?: boolean
}

export const MIGRATIONS = join(import.meta.dirname, '../../infra/migrations/registry')
export const digestOf = (text: string): Promise<Digest> => sha256(text)
export const PLAIN_BASE = await digestOf('base')

/** A real catalogue whose rows are written by hand, for thousands of cases that would take hours to publish. */
export async function openShelf() {
  const folder = temporaryFolder()
  const catalogue = openSqliteCatalogue(
    join(folder.path, 'registry.sqlite'),
    readMigrations(MIGRATIONS),
  )
  const deps = {
    catalogue,
    blobs: await openFileBlobs(join(folder.path, 'blobs')),
    issuer: await generateSigningKey(),
    issuerName: 'https://registry.test',
    logKey: await generateSigningKey(),
    witnesses: [],
    setupCode: null,
    clock: () => new Date(),
    limits: DEFAULT_LIMITS,
  } as RegistryDeps
  const at = '2026-01-01T00:00:00.000Z'
  await catalogue.batch([sql(`INSERT INTO orgs (name, created_at) VALUES ('acme', ?)`, at)])
  let packages = 0

  const addBase = (digest: Digest, structure: Digest) =>
    catalogue.batch([
      sql(
        `INSERT INTO bases (digest, name, identity, tensors, created_at, created_by)
         VALUES (?, 'a-base', ?, ?, ?, 'user:ada')`,
        digest,
        JSON.stringify({ structure }),
        digest,
        at,
      ),
    ])
  await addBase(PLAIN_BASE, await digestOf('structure'))

  const rowOf = async (name: string, row: Shelved) => {
    const operations = row.operations ?? ['low_rank']
    const columns: Record<string, SqlValue> = {
      digest: await digestOf(`${name} ${row.version}`),
      package: name,
      version: row.version,
      precedence: row.version.split('+', 1)[0]!,
      base_digest: row.base ?? PLAIN_BASE,
      base_name: 'a-base',
      operations: JSON.stringify(operations),
      family: 'lora',
      description: '',
      keywords: '[]',
      size: 1,
      signatures: '[]',
      attestations: '[]',
      upload: 'u',
      published_by: 'user:ada',
      published_at: row.publishedAt ?? at,
      sort: row.unordered ? null : sortKey(row.version),
      operation_mask: operationMask(operations),
      max_rank: row.maxRank ?? 8,
      license: row.license ?? 'MIT',
      yanked: row.yanked ?? null,
      yanked_at: row.yanked === undefined ? null : at,
      deprecated: row.deprecated ?? null,
      deprecated_at: row.deprecated === undefined ? null : at,
      tombstoned: row.tombstoned ?? null,
      tombstoned_at: row.tombstoned === undefined ? null : at,
    }
    const names = Object.keys(columns)
    return sql(
      `INSERT INTO versions (${names.join(', ')}) VALUES (${names.map(() => '?').join(', ')})`,
      ...Object.values(columns),
    )
  }

  return {
    catalogue,
    deps,
    addBase,
    /** A new public package of these versions; its name. */
    async put(rows: readonly Shelved[]): Promise<string> {
      const name = `@acme/p${packages++}`
      await catalogue.batch([
        sql(
          `INSERT INTO packages (name, org, visibility, created_at) VALUES (?, 'acme', 'public', ?)`,
          name,
          at,
        ),
        ...(await Promise.all(rows.map((row) => rowOf(name, row)))),
      ])
      return name
    },
    choose: (name: string, range: string, demands: Partial<Demands> = {}): Promise<Choice> =>
      chooseVersion(
        deps,
        { package: name, selector: { kind: 'range', range } },
        { ...NO_DEMANDS, ...demands },
      ),
    async close() {
      catalogue.close()
      folder.clean()
    },
  }
}
