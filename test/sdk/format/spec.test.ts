import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DTYPES } from '@graft/sdk/format/dtypes.ts'
import { ERRORS } from '@graft/sdk/format/errors.ts'
import { MAX_SIGNATURES } from '@graft/sdk/format/jws.ts'
import { KEY_EVENTS, PACKAGE_EVENTS } from '@graft/sdk/format/log-entry.ts'
import {
  ADMISSION_PREDICATE,
  GOLDENS_PREDICATE,
  JWS_TYPES,
  MANIFEST_SCHEMA,
} from '@graft/sdk/format/manifest.ts'
import { ADAPTER_ARTIFACT_TYPE, REFERRER_TYPES } from '@graft/sdk/format/oci.ts'
import { OMS_BUNDLE_TYPE, OMS_PREDICATE } from '@graft/sdk/format/oms.ts'
import { OPERATIONS } from '@graft/sdk/format/operations.ts'
import { ACTIVATIONS } from '@graft/sdk/format/parse-operation.ts'
import { MAX_JSON_DEPTH } from '@graft/sdk/format/strict-json.ts'
import { describe, expect, it } from 'vitest'

const read = (path: string) =>
  readFileSync(join(import.meta.dirname, '../../../sdk/format', path), 'utf8')
const spec = read('SPEC.md')
const { $defs } = JSON.parse(read('manifest.schema.json'))
const words = (text: string): string[] => text.match(/[A-Za-z0-9_]+/g) ?? []

describe('SPEC.md', () => {
  it('lists the dtypes in the order by which a writer sorts', () => {
    const [, list = ''] = /dtypes: `([^`]+)`/.exec(spec) ?? []
    expect(words(list)).toEqual(Object.keys(DTYPES))
    expect($defs.dtype.enum).toEqual(Object.keys(DTYPES))
  })

  it('names every type, predicate and kind that the code knows', () => {
    for (const name of [
      ...Object.values(JWS_TYPES),
      ...Object.values(REFERRER_TYPES),
      ...[MANIFEST_SCHEMA, GOLDENS_PREDICATE, ADMISSION_PREDICATE],
      ...[ADAPTER_ARTIFACT_TYPE, OMS_BUNDLE_TYPE, OMS_PREDICATE],
      ...[...PACKAGE_EVENTS, ...KEY_EVENTS],
    ])
      expect(spec).toContain(name)
    for (const name of [...Object.keys(OPERATIONS), ...ACTIVATIONS])
      expect(words(spec), name).toContain(name)
  })

  it('names every field and slot of every operation, as the schema has them', () => {
    const section = words(spec.split('## 3. Operations')[1]!.split('### Methods')[0]!)
    const shapes = Object.keys(OPERATIONS).flatMap((kind) => $defs[kind].anyOf ?? [$defs[kind]])
    for (const { properties } of shapes)
      for (const name of [...Object.keys(properties), ...Object.keys(properties.slots.properties)])
        if (!['op', 'site', 'slots'].includes(name)) expect(section).toContain(name)
  })

  it('names no error that there is not, and the limits that hold', () => {
    for (const code of spec.match(/ERR_[A-Z_]+/g) ?? [])
      if (code !== 'ERR_') expect(Object.keys(ERRORS)).toContain(code)
    expect(spec).toContain(`| ${MAX_SIGNATURES} signatures `)
    expect(spec).toContain(`| JSON depth ${MAX_JSON_DEPTH} `)
  })
})
