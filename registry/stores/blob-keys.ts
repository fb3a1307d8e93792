import type { Digest } from '@graft/sdk/format/digest.ts'
import { presignS3, type S3Address } from './presign-s3.ts'

/** Where blobs stand in a bucket, the same in S3 and in R2: a bucket may change its server. */
export const STAGING = 'staging/'

export const hexOf = (digest: Digest): string => digest.slice('sha256:'.length)
export const blobKey = (digest: Digest): string => `blobs/${hexOf(digest)}`
export const stagingPrefix = (upload: string): string => `${STAGING}${upload}/`
export const stagedKey = (upload: string, digest: Digest): string =>
  `${stagingPrefix(upload)}${hexOf(digest)}`
export const partsPrefix = (upload: string, digest: Digest): string =>
  `${stagedKey(upload, digest)}.parts/`
export const partKey = (upload: string, digest: Digest, number: number): string =>
  `${partsPrefix(upload, digest)}${number}`

/** An address to which a client sends one part, of exactly this size. */
export const presignPart = (
  address: S3Address,
  part: { upload: string; digest: Digest; number: number; size: number },
  seconds: number,
): Promise<string> =>
  presignS3(address, {
    method: 'PUT',
    key: partKey(part.upload, part.digest, part.number),
    headers: { 'content-length': String(part.size) },
    seconds,
    at: new Date(),
  })
