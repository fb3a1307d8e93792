import { parseDigest } from '@graft/sdk/format/digest.ts'
import { isTag } from '@graft/sdk/format/parse-reference.ts'
import type { PublishRequest } from '@graft/sdk/protocol/registry-api.ts'
import { Hono } from 'hono'
import * as z from 'zod'
import type { RegistryDeps } from '../deps.ts'
import { readJson } from '../http/body.ts'
import type { RegistryEnv } from '../http/context.ts'
import { digestSchema, sizeSchema } from '../http/schemas.ts'
import { authenticate } from '../identity/authenticate.ts'
import { requireScope } from '../identity/caller.ts'
import { abortPublish } from '../publish/abort.ts'
import { completePublish } from '../publish/complete.ts'
import { listMissingParts, receivePart } from '../publish/parts.ts'
import { receiveBlob } from '../publish/receive-blob.ts'
import { startPublish } from '../publish/start.ts'
import { findUpload, toAnswer } from '../publish/uploads.ts'

const envelopeSchema = z.strictObject({
  payload: z.string(),
  signatures: z
    .array(z.strictObject({ protected: z.string().max(4096), signature: z.string().max(4096) }))
    .min(1)
    .max(8),
})

const publishSchema: z.ZodType<PublishRequest> = z.strictObject({
  envelope: envelopeSchema,
  attestations: z.array(envelopeSchema).max(16),
  visibility: z.enum(['public', 'private']),
  tags: z.array(z.string().refine(isTag, 'must be a tag, like "latest"')).max(16).exactOptional(),
  blobs: z.array(z.strictObject({ digest: digestSchema, size: sizeSchema })).max(64),
})

export const publishRoutes = (deps: RegistryDeps) =>
  new Hono<RegistryEnv>()
    .post('/v1/publish', async (c) => {
      const caller = await authenticate(deps, c)
      requireScope(caller, 'publish')
      const request = await readJson(c, publishSchema, deps.limits.manifest)
      return c.json(await startPublish(deps, caller, request))
    })
    .put('/v1/publish/:id/blobs/:digest', async (c) => {
      const caller = await authenticate(deps, c)
      const digest = parseDigest(c.req.param('digest'), 'blob')
      const length = c.req.header('content-length')
      const size = length === undefined ? null : Number(length)
      await receiveBlob(deps, caller, c.req.param('id'), digest, c.req.raw.body, size)
      return c.json({})
    })
    .get('/v1/publish/:id/blobs/:digest/parts', async (c) => {
      const caller = await authenticate(deps, c)
      const digest = parseDigest(c.req.param('digest'), 'blob')
      const parts = await listMissingParts(deps, caller, c.req.param('id'), digest)
      return c.json(parts, 200, { 'cache-control': 'no-store' })
    })
    .put('/v1/publish/:id/blobs/:digest/parts/:number', async (c) => {
      const caller = await authenticate(deps, c)
      const { id, digest, number } = c.req.param()
      const length = c.req.header('content-length')
      await receivePart(
        deps,
        caller,
        id,
        parseDigest(digest, 'blob'),
        Number(number),
        c.req.raw.body,
        length === undefined ? null : Number(length),
      )
      return c.json({})
    })
    .delete('/v1/publish/:id', async (c) => {
      await abortPublish(deps, await authenticate(deps, c), c.req.param('id'))
      return c.json({})
    })
    .post('/v1/publish/:id/complete', async (c) =>
      c.json(await completePublish(deps, await authenticate(deps, c), c.req.param('id'))),
    )
    .get('/v1/publish/:id', async (c) => {
      const caller = await authenticate(deps, c)
      requireScope(caller, 'publish')
      const upload = await findUpload(deps, caller, c.req.param('id'))
      return c.json(toAnswer(upload), 200, { 'cache-control': 'no-store' })
    })
