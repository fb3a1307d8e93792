import { encodeBase64url } from '@graft/sdk/format/base64url.ts'

/** 256 random bits, base64url. */
export const newSecret = (): string => encodeBase64url(crypto.getRandomValues(new Uint8Array(32)))

/** What is kept of a secret: whoever reads the catalogue cannot use it. Enough for random ones; no password goes here. */
export async function secretHash(secret: string): Promise<string> {
  const sum = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(secret))
  return encodeBase64url(new Uint8Array(sum))
}
