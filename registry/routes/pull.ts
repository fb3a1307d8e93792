import { parseDigest } from '@graft/sdk/format/digest.ts'
import { errorResponse, GraftError } from '@graft/sdk/format/errors.ts'
import { signJwt } from '@graft/sdk/format/jws.ts'
import { JWS_TYPES } from '@graft/sdk/format/manifest.ts'
import type { CapabilityClaims } from '@graft/sdk/protocol/tokens.ts'
import { Hono } from 'hono'
import * as z from 'zod'
import type { RegistryDeps } from '../deps.ts'
import {
  cacheControl,
  cachedJson,
  IMMUTABLE_SECONDS,
  MUTABLE_SECONDS,
  matchesEtag,
} from '../http/answer.ts'
import { readJson } from '../http/body.ts'
import { parseByteRange } from '../http/byte-range.ts'
import type { RegistryEnv } from '../http/context.ts'
import { digestSchema } from '../http/schemas.ts'
import { authenticate, authenticatePull } from '../identity/authenticate.ts'
import { requireScope } from '../identity/caller.ts'
import { assertReadable, readVersion } from '../packages/read-version.ts'
import { findReadableBlob } from '../packages/readable.ts'

const capabilitySchema = z.strictObject({ manifest: digestSchema })

/** Manifests and blobs by digest, and the right to pull one manifest's on a tenant's behalf. */
export const pullRoutes = (deps: RegistryDeps) =>
  new Hono<RegistryEnv>()
    .get('/v1/manifests/:digest', async (c) => {
      const digest = parseDigest(c.req.param('digest'), 'manifest')
      const reader = await authenticatePull(deps, c)
      const { record, isPublic } = await readVersion(deps, reader, digest)
      // The envelope never changes, but the status of a key beside it does.
      return cachedJson(c, record, cacheControl(MUTABLE_SECONDS, isPublic))
    })
    .get('/v1/blobs/:digest', async (c) => {
      const digest = parseDigest(c.req.param('digest'), 'blob')
      const reader = await authenticatePull(deps, c)
      const blob = await findReadableBlob(deps, reader, digest)
      if (blob === null)
        throw new GraftError(
          'ERR_BLOB_UNKNOWN',
          `blob ${digest} is not known here, or it is private and the token cannot read it`,
        )
      const etag = `"${digest}"`
      const headers = {
        etag,
        'cache-control': cacheControl(IMMUTABLE_SECONDS, blob.isPublic),
        vary: 'authorization',
        'accept-ranges': 'bytes',
      }
      if (matchesEtag(c.req.header('if-none-match'), etag)) return c.body(null, 304, headers)
      const fresh = [undefined, etag].includes(c.req.header('if-range'))
      const range = parseByteRange(fresh ? c.req.header('range') : undefined, blob.size)
      if (range === 'unsatisfiable') {
        const message = `the range must lie inside the blob's ${blob.size} bytes, got ${c.req.header('range')}`
        const e = new GraftError('ERR_REQUEST_INVALID', message)
        const { body } = errorResponse(e, c.get('requestId'))
        return c.json(body, 416, {
          'content-range': `bytes */${blob.size}`,
          'cache-control': 'no-store',
        })
      }
      const body = await deps.blobs.get(digest, range ?? undefined)
      if (body === null) throw new Error(`blob ${digest} is gone from the store`)
      const { start, end } = range ?? { start: 0, end: blob.size }
      return c.body(body, range ? 206 : 200, {
        ...headers,
        'content-type': 'application/octet-stream',
        'content-length': String(end - start),
        ...(range ? { 'content-range': `bytes ${start}-${end - 1}/${blob.size}` } : {}),
      })
    })
    .post('/v1/capabilities', async (c) => {
      const caller = await authenticate(deps, c)
      requireScope(caller, 'infer')
      const { manifest } = await readJson(c, capabilitySchema, deps.limits.json)
      const { tenant } = caller
      await assertReadable(deps, { tenant, only: null }, manifest)
      const exp = Math.floor(deps.clock().getTime() / 1000) + deps.limits.capabilitySeconds
      const claims: CapabilityClaims = { iss: deps.issuerName, tenant, manifest, exp }
      const token = await signJwt(claims, JWS_TYPES.capability, deps.issuer)
      const expiresAt = new Date(exp * 1000).toISOString()
      return c.json({ token, expiresAt }, 200, { 'cache-control': 'no-store' })
    })
