import { concatBytes } from './bytes.ts'
import { GraftError } from './errors.ts'

/**
 * The two ways to write an ECDSA signature: r and s of 32 bytes each, one after the other (JWS, WebCrypto), and the
 * ASN.1 SEQUENCE of two INTEGERs in DER (X.509, DSSE and most of the Sigstore world; RFC 3279 section 2.2.3). P-256 only.
 */
const COORDINATE_BYTES = 32

const invalid = (): GraftError =>
  new GraftError(
    'ERR_SIGNATURE_INVALID',
    'the ECDSA signature must be a DER sequence of two positive integers of at most 32 bytes',
  )

/** Minimal two's complement: no leading zeros but one that keeps the number positive. */
function derInteger(value: Uint8Array): Uint8Array {
  const first = value.findIndex((byte) => byte !== 0)
  const digits = value.subarray(first < 0 ? value.length - 1 : first)
  const padding = digits[0]! >= 0x80 ? [0] : []
  return Uint8Array.of(2, digits.length + padding.length, ...padding, ...digits)
}

/** @param raw 64 bytes: r, then s */
export function toDer(raw: Uint8Array): Uint8Array<ArrayBuffer> {
  const halves = [raw.subarray(0, COORDINATE_BYTES), raw.subarray(COORDINATE_BYTES)].map(derInteger)
  const body = concatBytes(halves)
  return concatBytes([Uint8Array.of(0x30, body.length), body])
}

/** @throws ERR_SIGNATURE_INVALID for any encoding but the one that toDer gives: a signature has one spelling */
export function fromDer(der: Uint8Array): Uint8Array<ArrayBuffer> {
  const raw = new Uint8Array(2 * COORDINATE_BYTES)
  let at = 2
  for (let half = 1; half <= 2; half++) {
    const length = der[at + 1] ?? 0
    const digits = der.subarray(at + 2, at + 2 + length)
    const value = digits[0] === 0 ? digits.subarray(1) : digits
    if (value.length > COORDINATE_BYTES) throw invalid()
    raw.set(value, half * COORDINATE_BYTES - value.length)
    at += 2 + length
  }
  const again = toDer(raw)
  if (again.length !== der.length || again.some((byte, i) => byte !== der[i])) throw invalid()
  return raw
}
