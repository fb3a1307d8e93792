import { createHmac, randomBytes } from 'node:crypto'
import { logEntry } from '@graft/sdk/format/log-entry.ts'
import { expect, it } from 'vitest'

const at = '2026-01-02T03:04:05.678Z'
const digest = `sha256:${'0a'.repeat(32)}`
const facts = { version: '1.2.3', digest }
const NO_SALT = new Uint8Array(0)

it('says a public event in canonical JSON', async () => {
  const event = { kind: 'version.publish', package: '@acme/sql', private: false, facts } as const
  expect(await logEntry(event, at, NO_SALT)).toBe(
    `{"at":"${at}","facts":{"digest":"${digest}","version":"1.2.3"},"kind":"version.publish","package":"@acme/sql"}`,
  )
  const key = { kind: 'key.revoke', org: 'acme', facts: { kid: 'k' } } as const
  expect(await logEntry(key, at, NO_SALT)).toBe(
    `{"at":"${at}","facts":{"kid":"k"},"kind":"key.revoke","org":"acme"}`,
  )
})

it("hides a private event behind the HMACs that Node's crypto computes by the specification", async () => {
  const salt = randomBytes(32)
  const event = { kind: 'tag.move', package: '@acme/x', private: true, facts } as const
  const hmac = (text: string) =>
    `hmac-sha256:${createHmac('sha256', salt).update(text).digest('hex')}`
  expect(JSON.parse(await logEntry(event, at, salt))).toEqual({
    at,
    kind: 'tag.move',
    package: hmac('package\n@acme/x'),
    facts: hmac(`facts\n{"at":"${at}","digest":"${digest}","kind":"tag.move","version":"1.2.3"}`),
  })
})
