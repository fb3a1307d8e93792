import { join } from 'node:path'
import { openSqliteCatalogue, readMigrations } from '@graft/registry/node/sqlite-catalogue.ts'
import type { Choice } from '@graft/registry/resolve/choose-version.ts'
import { type Demands, NO_DEMANDS } from '@graft/registry/resolve/demands.ts'
import { allowsLicence } from '@graft/registry/resolve/licence.ts'
import { sortKey } from '@graft/registry/resolve/version-order.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { isGraftError } from '@graft/sdk/format/errors.ts'
import { OPERATIONS, type OperationKind } from '@graft/sdk/format/operations.ts'
import fc from 'fast-check'
import { compare, rcompare, satisfies } from 'semver'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { temporaryFolder } from './fixtures.ts'
import { digestOf, MIGRATIONS, openShelf, PLAIN_BASE, type Shelved } from './shelf.ts'

let shelf: Awaited<ReturnType<typeof openShelf>>
const OTHER_BASE = await digestOf('another base')
const TWIN_BASE = await digestOf('a base of the same structure')
const STRUCTURE = await digestOf('structure')

beforeAll(async () => {
  shelf = await openShelf()
  await shelf.addBase(OTHER_BASE, await digestOf('another structure'))
  await shelf.addBase(TWIN_BASE, STRUCTURE)
})
afterAll(() => shelf.close())

const small = fc.integer({ min: 0, max: 3 })
const identifier = fc.oneof(
  small.map(String),
  fc.constantFrom('10', 'a', 'alpha', 'alpha1', 'alpha-1', '-', 'A', '0a', 'beta'),
)
const prerelease = fc.array(identifier, { minLength: 1, maxLength: 3 }).map((ids) => ids.join('.'))
const version = fc
  .tuple(small, small, small, fc.option(prerelease, { nil: null, freq: 2 }))
  .map(([a, b, c, pre]) => `${a}.${b}.${c}${pre === null ? '' : `-${pre}`}`)
const comparator = fc
  .tuple(fc.constantFrom('', '^', '~', '>', '>=', '<', '<=', '='), version)
  .map(([operator, v]) => operator + v)
const partial = fc.constantFrom('*', '1', '1.x', '2.1', '^1', '~0.2', '<2', '>=1.2', '0.x')
const simple = fc.oneof(
  comparator,
  partial,
  fc.tuple(comparator, comparator).map((two) => two.join(' ')),
  fc.tuple(version, version).map((two) => two.join(' - ')),
)
const range = fc.array(simple, { minLength: 1, maxLength: 3 }).map((some) => some.join(' || '))

const kinds = Object.keys(OPERATIONS) as OperationKind[]
const bases = fc.constantFrom<Digest>(PLAIN_BASE, OTHER_BASE, TWIN_BASE)
const days = (n: number) => new Date(Date.UTC(2026, 0, 1 + n)).toISOString()
const LICENCES = ['MIT', 'Apache-2.0', 'MIT OR GPL-3.0-only', 'MIT AND BSD-3-Clause', '', 'a (b']
/** Nil three times of four. */
const seldom = <T, N>(arbitrary: fc.Arbitrary<T>, nil: N) =>
  fc.oneof({ weight: 3, arbitrary: fc.constant(nil) }, { weight: 1, arbitrary })
const flag = seldom(fc.constant('because'), undefined)
const row = fc.record<Shelved>({
  version,
  base: bases,
  operations: fc.subarray(kinds, { minLength: 1, maxLength: 3 }),
  maxRank: fc.constantFrom(0, 4, 8, 16),
  license: fc.constantFrom(...LICENCES),
  publishedAt: small.map(days),
  yanked: flag,
  deprecated: flag,
  tombstoned: flag,
  unordered: fc.boolean(),
} as never)
const rows = fc.uniqueArray(row, { maxLength: 25, selector: (r) => r.version })
const maybe = <T>(arbitrary: fc.Arbitrary<T>) => seldom(arbitrary, null)
const demands = fc
  .record({
    base: maybe(bases),
    structure: maybe(fc.constant(STRUCTURE)),
    operations: maybe(fc.subarray(kinds, { minLength: 4 })),
    maxRank: maybe(fc.constantFrom(4, 8)),
    licences: maybe(fc.subarray(['mit', 'Apache-2.0', 'BSD-3-Clause'], { minLength: 1 })),
    publishedBy: maybe(fc.integer({ min: 1, max: 3 }).map(days)),
  })
  .map((d): Demands => ({ ...NO_DEMANDS, ...d, structure: d.base ? null : d.structure }))

/** Written from the docs, by plain loops over every version. */
function naive(all: readonly Shelved[], wanted: string, d: Demands) {
  const licenceFits = (text: string) =>
    (d.licences ?? []).some((id) => text.toLowerCase().split(' or ').includes(id.toLowerCase())) ||
    (text === 'MIT AND BSD-3-Clause' &&
      ['mit', 'BSD-3-Clause'].every((id) => d.licences?.includes(id)))
  const structureOf = (base?: Digest) => (base === OTHER_BASE ? null : STRUCTURE)
  const fits = (v: Shelved) =>
    !v.yanked &&
    !v.tombstoned &&
    (d.base === null || v.base === d.base) &&
    (d.structure === null || structureOf(v.base) === d.structure) &&
    v.operations!.every((op) => d.operations?.includes(op) ?? true) &&
    (d.maxRank === null || v.maxRank! <= d.maxRank) &&
    (d.licences === null || licenceFits(v.license!)) &&
    (d.publishedBy === null || v.publishedAt! <= d.publishedBy)
  const inside = all
    .filter((v) => satisfies(v.version, wanted))
    .sort((a, b) => rcompare(a.version, b.version))
  const chosen = inside.find((v) => fits(v) && !v.deprecated) ?? inside.find(fits) ?? null
  const skipped = chosen ? inside.slice(0, inside.indexOf(chosen)) : []
  return { chosen: chosen?.version ?? null, skipped: skipped.map((v) => v.version) }
}

it('chooses what a plain loop with the semver package chooses, and passes over the same versions', async () => {
  let found = 0
  await fc.assert(
    fc.asyncProperty(rows, range, demands, async (all, wanted, d) => {
      const want = naive(all, wanted, d)
      const name = await shelf.put(all)
      const got = await shelf.choose(name, wanted, d).catch((e: unknown): Choice | null => {
        if (isGraftError(e) && e.code === 'ERR_RANGE_UNSATISFIED') return null
        throw e
      })
      if (got) found++
      expect({
        chosen: got?.version.version ?? null,
        skipped: got?.skipped.map((s) => s.version) ?? [],
      }).toEqual(want)
    }),
    { numRuns: 1500 },
  )
  expect(found).toBeGreaterThan(150)
})

it('sorts keys as semver compares versions', () => {
  const large = fc
    .tuple(fc.maxSafeNat(), fc.nat(99_999), fc.nat(11))
    .map((numbers) => numbers.join('.'))
  const any = fc.oneof(version, large)
  fc.assert(
    fc.property(any, any, (a, b) => {
      const [x, y] = [sortKey(a), sortKey(b)]
      expect(x < y ? -1 : x > y ? 1 : 0).toBe(compare(a, b))
    }),
    { numRuns: 5000 },
  )
})

it('lists the newest twenty that were passed over and counts the rest', async () => {
  const many = Array.from({ length: 300 }, (_, i) => ({
    version: `1.${i}.0`,
    maxRank: i === 7 ? 8 : 64,
  }))
  const name = await shelf.put(many)
  const { version: chosen, skipped, skippedMore } = await shelf.choose(name, '^1', { maxRank: 8 })
  expect(chosen.version).toBe('1.7.0')
  expect(skipped).toHaveLength(20)
  expect(skipped[0]).toEqual({
    version: '1.299.0',
    reason: 'has rank 64, and the runtime takes at most 8',
  })
  expect(skippedMore).toBe(272)
  await expect(shelf.choose(name, '^1', { maxRank: 4 })).rejects.toThrow(/; and 280 more$/)
})

it.each([
  ['MIT', ['mit'], true],
  ['GPL-2.0+', ['GPL-2.0'], true],
  ['GPL-2.0-only WITH Classpath-exception-2.0', ['GPL-2.0-only'], false],
  [
    'GPL-2.0-only WITH Classpath-exception-2.0',
    ['gpl-2.0-only with classpath-exception-2.0'],
    true,
  ],
  ['MIT AND (Apache-2.0 OR BSD-2-Clause)', ['MIT', 'BSD-2-Clause'], true],
  ['MIT AND (Apache-2.0 OR BSD-2-Clause)', ['Apache-2.0'], false],
  ['MIT OR Apache-2.0 AND BSD-2-Clause', ['MIT'], true],
  ['LicenseRef-house', ['LicenseRef-house'], true],
  ['MIT OR', ['MIT'], null],
  ['(MIT', ['MIT'], null],
  ['MIT/Apache-2.0', ['MIT'], null],
  ['MIT and Apache-2.0', ['MIT'], null],
  ['', ['MIT'], null],
])('the licence %j under %j: %j', (expression, allowed, answer) => {
  expect(allowsLicence(expression, allowed)).toBe(answer)
})

it('takes a catalogue of the first version along: its versions are ordered, and what it never recorded fits no demand', async () => {
  const folder = temporaryFolder()
  const file = join(folder.path, 'registry.sqlite')
  const all = readMigrations(MIGRATIONS)
  const old = openSqliteCatalogue(file, all.slice(0, 1))
  const at = '2026-01-01T00:00:00.000Z'
  const insert = (table: string, values: Record<string, string | number>) => ({
    sql: `INSERT INTO ${table} (${Object.keys(values).join(', ')})
      VALUES (${Object.keys(values)
        .map(() => '?')
        .join(', ')})`,
    params: Object.values(values),
  })
  const versions = ['1.0.0', '1.10.0', '1.9.0', '2.0.0-rc.1']
  await old.batch([
    insert('orgs', { name: 'acme', created_at: at }),
    insert('bases', {
      ...{ digest: PLAIN_BASE, name: 'b', identity: JSON.stringify({ structure: STRUCTURE }) },
      ...{ tensors: PLAIN_BASE, created_at: at, created_by: 'user:ada' },
    }),
    insert('packages', { name: '@acme/a', org: 'acme', visibility: 'public', created_at: at }),
    ...(await Promise.all(
      versions.map(async (v) =>
        insert('versions', {
          ...{ digest: await digestOf(v), package: '@acme/a', version: v, precedence: v },
          ...{ base_digest: PLAIN_BASE, base_name: 'b', operations: '["low_rank","scale"]' },
          ...{ family: 'lora', description: '', keywords: '[]', size: 1, signatures: '[]' },
          ...{ attestations: '[]', upload: 'u', published_by: 'user:ada', published_at: at },
        }),
      ),
    )),
  ])
  old.close()
  const catalogue = openSqliteCatalogue(file, all)
  const { chooseVersion } = await import('@graft/registry/resolve/choose-version.ts')
  const choose = (more: Partial<Demands> = {}) =>
    chooseVersion(
      { ...shelf.deps, catalogue },
      { package: '@acme/a', selector: { kind: 'range', range: '*' } },
      { ...NO_DEMANDS, ...more },
    )
  expect((await choose()).version.version).toBe('1.10.0')
  expect((await choose({ structure: STRUCTURE })).version.version).toBe('1.10.0')
  expect((await choose({ operations: ['low_rank', 'scale'] })).version.version).toBe('1.10.0')
  await expect(choose({ operations: ['low_rank'] })).rejects.toThrow(/1\.10\.0 needs scale/)
  await expect(choose({ maxRank: 8 })).rejects.toThrow(/1\.10\.0 has no recorded rank/)
  await expect(choose({ licences: ['MIT'] })).rejects.toThrow(/1\.10\.0 has no recorded licence/)
  catalogue.close()
  folder.clean()
})
