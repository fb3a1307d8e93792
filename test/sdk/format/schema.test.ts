import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { isGraftError } from '@graft/sdk/format/errors.ts'
import { checkManifest } from '@graft/sdk/format/parse-manifest.ts'
import { parseGoldens } from '@graft/sdk/format/statements.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
// Of all that reads JSON Schema here the one that nobody of this project wrote.
import { z } from 'zod'
import { openKit } from '../../conformance/format/kit.ts'

const schema = JSON.parse(
  readFileSync(join(import.meta.dirname, '../../../sdk/format/manifest.schema.json'), 'utf8'),
)
const whole = z.fromJSONSchema(schema)
const part = (name: string) =>
  z.fromJSONSchema({ $schema: schema.$schema, $ref: `#/$defs/${name}`, $defs: schema.$defs })

/** Every manifest of the conformance kit that is to be accepted. */
const kit = openKit(join(import.meta.dirname, '../../conformance/format/fixtures'))
const accepted = new Map<string, unknown>()
for (const { id, kind, manifest } of kit.cases) {
  if (kind === 'manifest' && !('error' in kit.expected[id]!)) accepted.set(id, JSON.parse(manifest))
  if (kind === 'verify') accepted.set(id, JSON.parse(new TextDecoder().decode(kit.read(manifest))))
}

/**
 * What SPEC.md says of fields together, or of values that no pattern can check: the parser refuses it, the schema does not.
 * Each by what the refusal says.
 */
const LAXER: Record<string, RegExp> = {
  'crit names fields that are known and present': /^crit|demands that "/,
  'tensors, crit and files are named once each': /must be named once each/,
  'a slot names a tensor of the table': /must be a tensor of the table/,
  'a tensor is of the shape its operation says': /^operations\[\d+\]\.slots\.\w+: tensor /,
  'every tensor is used': /is used by no operation/,
  'a site is adapted once by an operation': /must be adapted once by/,
  'one file is canonical': /^files must be with one file of role canonical/,
  'files of a base are sorted': /^base\.files must be sorted by path/,
  'rows ascend, as many as the shape says':
    /must be ascending row numbers|\.shape must be \d+ rows/,
  'slots that go together': /\.slots\.\w+ must be (present|absent)/,
  'fields that go together': /must be absent where experts is/,
  'sizes of a dense form':
    /must be (such that|a divisor|levels of|at most (24|one per)|at least 0)/,
  'base64 decodes': /must be base64/,
  'a literal is of its size': /must be \d+ bytes for|below 2\^53 bits|whole bytes together/,
  'a version is below 2^53': /^version must be/,
}

describe('manifest.schema.json', () => {
  it('accepts every manifest that the conformance kit has for accepting', () => {
    expect(accepted.size).toBeGreaterThan(60)
    for (const [id, manifest] of accepted) {
      const result = whole.safeParse(manifest)
      expect(result.success, `${id}: ${result.error}`).toBe(true)
    }
  })

  it('refuses what the kit has for refusing, but for what no schema can say', () => {
    const lax: string[] = []
    for (const { id, kind, manifest } of kit.cases)
      if (kind === 'manifest' && 'error' in kit.expected[id]!)
        if (whole.safeParse(JSON.parse(manifest)).success)
          lax.push(id.replace('manifest/refuses-', ''))
    expect(lax).toEqual([
      'other-json',
      'same-site-twice',
      'slot-without-tensor',
      'shape-unlike-operation',
      'unused-tensor',
      'no-canonical-file',
      'crit-of-an-absent-field',
      'origin-not-base64',
      'origin-of-another-tensor',
      'literal-of-another-size',
      'a-critical-unknown-field',
    ])
  })

  it('agrees with the parser on mutated manifests: laxer only where it says so, never stricter', () => {
    const documents = [...accepted.values()]
    const interesting = fc.constantFrom<unknown>(
      ...[
        null,
        true,
        0,
        1,
        -1,
        1.5,
        2 ** 53,
        '',
        '0',
        '-0',
        '0.5',
        '1e3',
        '01',
        'x',
        '../a',
        '/a',
        'a/b',
      ],
      ...[
        'a.b',
        'sha256:00',
        `sha256:${'ab'.repeat(32)}`,
        'e30=',
        'F32',
        'learned',
        'ffn',
        [],
        [1],
        {},
        undefined,
      ],
    )
    const seen = { accepted: 0, refused: 0, laxer: 0 }
    fc.assert(
      fc.property(
        fc.constantFrom(...documents),
        fc.nat(),
        fc.oneof(
          { weight: 3, arbitrary: interesting },
          { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 1 }) },
        ),
        fc.boolean(),
        (document, where, value, extra) => {
          const manifest = changed(document, where, value, extra)
          const bySchema = whole.safeParse(manifest).success
          const byParser = refusalOf(manifest)
          if (byParser === null) {
            expect(bySchema, JSON.stringify(whole.safeParse(manifest).error)).toBe(true)
            seen.accepted++
          } else if (bySchema) {
            const rule = Object.keys(LAXER).find((name) => LAXER[name]!.test(byParser))
            expect(rule, byParser).toBeDefined()
            seen.laxer++
          } else seen.refused++
        },
      ),
      { numRuns: 3000 },
    )
    for (const count of Object.values(seen)) expect(count).toBeGreaterThan(50)
  })
})

describe('the schemas of attestations', () => {
  const goldens = {
    producer: 'peft@0.21.2',
    basePrecision: 'fp32',
    logits: { sha256: `sha256:${'ab'.repeat(32)}`, size: 8 },
    prompts: [{ tokenIds: [1, 2], positions: [1], greedy: { tokenIds: [3], margins: [0.5] } }],
  }
  it.each<[string, unknown]>([
    ['a producer', { ...goldens, producer: '' }],
    ['prompts', { ...goldens, prompts: [] }],
    ['a digest', { ...goldens, logits: { sha256: 'x', size: 8 } }],
    ['a size', { ...goldens, logits: { ...goldens.logits, size: 0 } }],
    ['nothing more', { ...goldens, more: 1 }],
  ])('demand %s of goldens, as the parser does', (_, value) => {
    expect(part('goldens').safeParse(goldens).success).toBe(true)
    expect(parseGoldens(goldens)).toEqual(goldens)
    expect(part('goldens').safeParse(value).success).toBe(false)
    expect(() => parseGoldens(value)).toThrow()
  })

  it('know statements by their type and subject', () => {
    const statement = {
      _type: 'https://in-toto.io/Statement/v1',
      subject: [{ name: '@a/b', digest: { sha256: 'ab'.repeat(32) } }],
      predicateType: 'urn:graft:predicate:goldens:v1',
      predicate: goldens,
    }
    expect(part('statement').safeParse(statement).success).toBe(true)
    expect(part('statement').safeParse({ ...statement, subject: [] }).success).toBe(false)
    expect(part('statement').safeParse({ ...statement, _type: 'x' }).success).toBe(false)
  })
})

function refusalOf(manifest: unknown): string | null {
  try {
    checkManifest(manifest)
    return null
  } catch (e) {
    if (isGraftError(e)) return e.message
    throw e
  }
}

/** Another value (undefined: none) somewhere in a copy of a document, or a member more. */
function changed(document: unknown, where: number, value: unknown, extra: boolean): unknown {
  const copy = structuredClone(document)
  const places: [object, string][] = []
  const walk = (at: unknown): void => {
    if (typeof at !== 'object' || at === null) return
    for (const [key, child] of Object.entries(at)) {
      places.push([at, key])
      walk(child)
    }
  }
  walk(copy)
  const [holder, key] = places[where % places.length]!
  if (extra && !Array.isArray(holder)) (holder as Record<string, unknown>)['extra'] = value ?? null
  else if (value === undefined && !Array.isArray(holder)) delete holder[key as never]
  else holder[key as never] = (value ?? null) as never
  return copy
}
