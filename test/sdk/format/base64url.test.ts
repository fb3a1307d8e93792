import {
  decodeBase64,
  decodeBase64url,
  encodeBase64,
  encodeBase64url,
} from '@graft/sdk/format/base64url.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { codeOf } from './vectors.ts'

describe('base64', () => {
  it('agrees with Node on any bytes, both ways', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        const node = Buffer.from(bytes)
        expect(encodeBase64(bytes)).toBe(node.toString('base64'))
        expect(encodeBase64url(bytes)).toBe(node.toString('base64url'))
        expect(decodeBase64(encodeBase64(bytes))).toEqual(bytes)
        expect(decodeBase64url(encodeBase64url(bytes))).toEqual(bytes)
      }),
    )
  })

  it('takes bytes of more than one chunk', () => {
    const bytes = new Uint8Array(100_001).map((_, i) => i * 7)
    expect(decodeBase64url(encodeBase64url(bytes))).toEqual(bytes)
  })

  it.each(['Zg', 'Zg=', 'Zh==', 'Zg==\n', 'Z g=', '-_==', 'Zg==Zg=='])(
    'refuses %j as base64',
    (text) => expect(codeOf(() => decodeBase64(text))).toBe('ERR_REQUEST_INVALID'),
  )

  it.each(['Zg==', 'Zh', 'Z', '+/8', 'Zg\n'])('refuses %j as base64url', (text) =>
    expect(codeOf(() => decodeBase64url(text))).toBe('ERR_REQUEST_INVALID'),
  )
})
