/** RFC 8628 section 6.1: no vowels, so no words, and nothing that reads as something else. */
const LETTERS = 'BCDFGHJKLMNPQRSTVWXZ'
const LENGTH = 8

/** Eight of twenty letters, 34.6 bits: enough with the bound on wrong tries of a session. */
export function newUserCode(): string {
  let code = ''
  while (code.length < LENGTH) {
    const byte = crypto.getRandomValues(new Uint8Array(1))[0]!
    // 240 is the largest multiple of 20 in a byte: beyond it some letters would come more often.
    if (byte < 240) code += LETTERS[byte % LETTERS.length]
  }
  return code
}

/** As people type it: any case, any separators. Null when it cannot be a code. */
export function parseUserCode(text: string): string | null {
  const code = text.toUpperCase().replace(/[^A-Z]/g, '')
  return code.length === LENGTH ? code : null
}

/** `WDJB-MJHT` */
export const formatUserCode = (code: string): string => `${code.slice(0, 4)}-${code.slice(4)}`
