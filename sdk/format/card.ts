import { sha256 } from './digest.ts'
import { expected, GraftError } from './errors.ts'
import type { FileRow, Manifest } from './manifest.ts'

/** A README is for people; what is longer is a book, and a registry has to render it for every visitor. */
export const MAX_CARD_BYTES = 128 * 1024

/** The README that a page shows: the first Markdown file of role `card`. */
export const cardOf = ({ files }: Pick<Manifest, 'files'>): FileRow | null =>
  files.find(({ role, mediaType }) => role === 'card' && mediaType === 'text/markdown') ?? null

/**
 * The manifest with `bytes` as its README; it changes the digest, so add it before anything is signed.
 * @throws ERR_BODY_TOO_LARGE; ERR_REQUEST_INVALID when the bytes are no UTF-8
 */
export async function withCard(manifest: Manifest, bytes: Uint8Array): Promise<Manifest> {
  if (bytes.length > MAX_CARD_BYTES)
    throw new GraftError(
      'ERR_BODY_TOO_LARGE',
      expected('README.md', `at most ${MAX_CARD_BYTES} bytes`, bytes.length),
    )
  try {
    new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (cause) {
    throw new GraftError(
      'ERR_REQUEST_INVALID',
      'README.md must be UTF-8 text, and is not; save it as UTF-8',
      { cause },
    )
  }
  const card: FileRow = {
    path: 'README.md',
    size: bytes.length,
    sha256: await sha256(bytes),
    role: 'card',
    mediaType: 'text/markdown',
  }
  return { ...manifest, files: [...manifest.files, card] }
}
