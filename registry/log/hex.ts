import type { Hash } from '@graft/sdk/format/tlog/hash.ts'

/** Lower case. */
export const toHex = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')

/** Of text that this registry wrote. */
export const ofHex = (text: string): Hash =>
  Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16))
