import { DatabaseSync } from 'node:sqlite'
import { sortKey } from '@graft/registry/resolve/version-order.ts'

export const PACKAGES = 1_000_000
export const VERSIONS = 10_000

const hex = (n: number): string => `sha256:${n.toString(16).padStart(64, '0')}`
export const BASE = hex(1)
export const OTHER_BASE = hex(2)
const AT = '2026-01-01T00:00:00.000Z'

/** Writes past durability: a bench's folder is thrown away. */
function write(file: string, work: (db: DatabaseSync) => void): void {
  const db = new DatabaseSync(file)
  db.exec('PRAGMA synchronous = OFF; PRAGMA cache_size = -262144; BEGIN')
  work(db)
  db.exec('COMMIT')
  db.close()
}

const COLUMNS = `digest, package, version, precedence, base_digest, base_name, operations, family, description,
  keywords, size, signatures, attestations, upload, published_by, published_at, sort, operation_mask, max_rank, license`
const REST = `'["low_rank"]', 'lora', 'Answers questions about tables', '["sql"]', 1000000, '[]', '[]', 'u', 'user:ada', '${AT}'`

/** Packages @s000/p000000 and on, a thousand an organisation, each of one version 1.0.0 with the tag latest. */
export function fillPackages(file: string): void {
  write(file, (db) => {
    db.exec(`
      INSERT INTO orgs (name, created_at) VALUES ('big', '${AT}');
      WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999)
        INSERT INTO orgs (name, created_at) SELECT printf('s%03d', i), '${AT}' FROM n;
      INSERT INTO bases (digest, name, identity, tensors, created_at, created_by) VALUES
        ('${BASE}', 'b', '{"structure":"${hex(3)}"}', '${hex(3)}', '${AT}', 'user:ada'),
        ('${OTHER_BASE}', 'c', '{"structure":"${hex(4)}"}', '${hex(3)}', '${AT}', 'user:ada');
      CREATE TEMP TABLE numbers (i INTEGER PRIMARY KEY, name TEXT, digest TEXT);
      WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ${PACKAGES - 1})
        INSERT INTO numbers SELECT i, printf('@s%03d/p%06d', i / ${PACKAGES / 1000}, i),
          'sha256:' || printf('%064x', i + 16) FROM n ORDER BY i;
      INSERT INTO packages (name, org, visibility, created_at)
        SELECT name, printf('s%03d', i / ${PACKAGES / 1000}), 'public', '${AT}' FROM numbers;
      INSERT INTO versions (${COLUMNS})
        SELECT digest, name, '1.0.0', '1.0.0', '${BASE}', 'b', ${REST}, '${sortKey('1.0.0')}', 1, 8, 'MIT' FROM numbers;
      INSERT INTO tags (package, tag, version, moved_at) SELECT name, 'latest', digest, '${AT}' FROM numbers;
    `)
  })
}

/** @big/one: 10 majors of 100 minors of 10 patches; every ninth a pre-release, every other for another base. */
export function fillVersions(file: string): void {
  write(file, (db) => {
    db.exec(
      `INSERT INTO packages (name, org, visibility, created_at) VALUES ('@big/one', 'big', 'public', '${AT}')`,
    )
    const insert = db.prepare(
      `INSERT INTO versions (${COLUMNS}) VALUES (?, '@big/one', ?, ?, ?, 'b', ${REST}, ?, 1, 8, 'MIT')`,
    )
    for (let i = 0; i < VERSIONS; i++) {
      const triple = `${Math.floor(i / 1000)}.${Math.floor(i / 10) % 100}.${i % 10}`
      const version = i % 9 === 0 ? `${triple}-rc.${i % 7}` : triple
      const base = i % 2 === 0 ? BASE : OTHER_BASE
      insert.run(hex(2 ** 40 + i), version, version, base, sortKey(version))
    }
  })
}
