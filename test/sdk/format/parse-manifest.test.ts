import { canonicalBytes } from '@graft/sdk/format/canonical-json.ts'
import { sha256 } from '@graft/sdk/format/digest.ts'
import type { Manifest } from '@graft/sdk/format/manifest.ts'
import { manifestBytes, manifestDigest, parseManifest } from '@graft/sdk/format/parse-manifest.ts'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { sampleAdapter } from './sample.ts'
import { codeOf } from './vectors.ts'

let manifest: Manifest
beforeAll(async () => {
  manifest = (await sampleAdapter()).manifest
})

type Path = (string | number)[]
/** A copy with the value at `path` changed; undefined removes it. */
function edited(path: Path, value: unknown): Uint8Array {
  const copy = structuredClone(manifest) as unknown
  let at = copy as Record<string | number, unknown>
  for (const key of path.slice(0, -1)) at = at[key] as typeof at
  if (value === undefined) delete at[path.at(-1)!]
  else at[path.at(-1)!] = value
  return canonicalBytes(copy)
}

describe('parseManifest', () => {
  it('reads back the canonical bytes it wrote', () => {
    expect(parseManifest(manifestBytes(manifest))).toEqual(manifest)
  })

  it('names a manifest by the sha256 of its canonical bytes, whatever the order of its keys', async () => {
    const reversed = Object.fromEntries(Object.entries(manifest).reverse()) as unknown as Manifest
    expect(await manifestDigest(reversed)).toBe(await sha256(manifestBytes(manifest)))
  })

  it('refuses the same JSON written otherwise: a manifest has one digest', () => {
    const bytes = new TextEncoder().encode(JSON.stringify(manifest, null, 2))
    expect(() => parseManifest(bytes)).toThrow('canonical JSON')
  })

  it('preserves an unknown top-level field, and refuses it once it is critical', () => {
    const bytes = edited(['hint'], { any: [1] })
    expect(parseManifest(bytes)).toMatchObject({ hint: { any: [1] } })
    const critical = JSON.parse(new TextDecoder().decode(bytes))
    critical.crit = ['hint']
    expect(codeOf(() => parseManifest(canonicalBytes(critical)))).toBe('ERR_CRITICAL_UNKNOWN')
  })

  it.each<[string, Path, unknown]>([
    ['another schema', ['schema'], 'graft.adapter/2'],
    ['no schema', ['schema'], undefined],
    ['a name without a scope', ['name'], 'sample'],
    ['a name in upper case', ['name'], '@acme/Sample'],
    ['a range as version', ['version'], '^1.0.0'],
    ['a version with v', ['version'], 'v1.0.0'],
    ['a number as description', ['description'], 1],
    ['an empty keyword', ['keywords'], ['']],
    ['no base', ['base'], undefined],
    ['an unknown field of the base', ['base', 'etag'], 'x'],
    ['a base without files', ['base', 'files'], []],
    ['a short digest', ['base', 'structure'], 'sha256:00'],
    ['an absolute path', ['base', 'files', 0, 'path'], '/etc/passwd'],
    ['a path that climbs', ['files', 0, 'path'], 'a/../../b'],
    ['no family', ['method', 'family'], ''],
    ['no operations', ['operations'], []],
    ['an unknown operation', ['operations', 0, 'op'], 'lora'],
    ['an operation of the prototype', ['operations', 0, 'op'], 'constructor'],
    ['an unknown field of an operation', ['operations', 0, 'alpha'], '16'],
    ['an unknown slot', ['operations', 0, 'slots', 'C'], 'q.A'],
    ['a missing slot', ['operations', 0, 'slots', 'B'], undefined],
    ['a number as scale', ['operations', 0, 'scale'], 0.5],
    ['a scale with an exponent', ['operations', 0, 'scale'], '5e-1'],
    ['a scale of another form', ['operations', 0, 'scale'], '0.50'],
    ['a rank of zero', ['operations', 0, 'rank'], 0],
    ['a fractional rank', ['operations', 0, 'rank'], 1.5],
    ['a site with a wildcard', ['operations', 0, 'site'], 'model.*.q_proj'],
    ['a slot that names no tensor', ['operations', 0, 'slots', 'A'], 'nothing'],
    ['the same site twice', ['operations', 1, 'site'], 'model.layers.0.self_attn.q_proj'],
    ['an unknown side', ['operations', 2, 'side'], 'both'],
    ['an unknown activation', ['operations', 3, 'activation'], 'mish'],
    ['a channel scale without its tensor', ['operations', 3, 'slots', 'scaling'], undefined],
    ['a constant scale with a tensor', ['operations', 3, 'scaling'], '1'],
    ['rows that descend', ['operations', 7, 'rows'], [9, 3]],
    ['rows and shape that differ', ['operations', 7, 'rows'], [3, 9, 11]],
    ['an unknown dtype', ['tensors', 0, 'dtype'], 'F128'],
    ['a negative size', ['files', 0, 'size'], -1],
    ['an unknown role', ['files', 0, 'role'], 'weights'],
    ['no canonical file', ['files', 0, 'role'], 'card'],
    ['a text as origin', ['origin'], 'peft'],
    ['a crit that names an absent field', ['crit'], ['keywords']],
    ['a crit that names a field twice', ['crit'], ['origin', 'origin']],
    ['no crit', ['crit'], undefined],
    ['a list as training', ['training'], []],
  ])('refuses %s', (_, path, value) => {
    expect(codeOf(() => parseManifest(edited(path, value)))).toBe('ERR_MANIFEST_INVALID')
  })

  it('refuses a tensor whose shape is not what the operation implies', () => {
    expect(() => parseManifest(edited(['operations', 0, 'rank'], 3))).toThrow(
      'operations[0].slots.A: tensor q.A must be [3,8], got [2,8]',
    )
  })

  it('refuses a tensor that no operation uses', () => {
    const { sha256: digest } = manifest.tensors[0]!
    const extra = { name: 'extra', dtype: 'F32', shape: [1], sha256: digest }
    const bytes = edited(['tensors'], [...manifest.tensors, extra])
    expect(codeOf(() => parseManifest(bytes))).toBe('ERR_TENSOR_UNMATCHED')
  })

  it('answers or refuses, never crashes, whatever value stands in whatever place', () => {
    const paths: Path[] = []
    const walk = (value: unknown, path: Path) => {
      if (path.length > 0) paths.push(path)
      if (typeof value === 'object' && value !== null)
        for (const [key, child] of Object.entries(value))
          walk(child, [...path, Array.isArray(value) ? Number(key) : key])
    }
    walk(manifest, [])
    fc.assert(
      fc.property(fc.constantFrom(...paths), fc.jsonValue({ maxDepth: 2 }), (path, value) => {
        const code = codeOf(() => parseManifest(edited(path, value)))
        expect(code).toMatch(/^(accepted|ERR_[A-Z_]+)$/)
      }),
      { numRuns: 500 },
    )
  })
})
