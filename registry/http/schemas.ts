import { type Digest, isDigest } from '@graft/sdk/format/digest.ts'
import * as z from 'zod'

export const digestSchema = z.custom<Digest>(isDigest, 'must be "sha256:" and 64 hex digits')
export const sizeSchema = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER)
