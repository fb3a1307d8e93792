import { isDigest } from '@graft/sdk/format/digest.ts'
import type { Heartbeat } from '@graft/sdk/protocol/runner-api.ts'
import * as z from 'zod'

const digest = z.string().refine(isDigest, 'must be "sha256:" and 64 hex digits')
const count = z.number().nonnegative()

/** What a runner says of itself. Fields that a newer runner adds are kept out, not refused: fleets roll. */
export const heartbeatSchema = z.object({
  url: z.url({ protocol: /^https?$/ }),
  draining: z.boolean(),
  status: z.object({
    id: z.string().min(1).max(200),
    build: z.string(),
    base: z.object({ name: z.string().min(1), digest }),
    operations: z.array(z.string()),
    maxPositions: z.int().positive(),
    slots: z.int().positive(),
    running: count,
    waiting: count,
    tokensPerSecond: count,
    residency: z.array(z.object({ digest, tier: z.enum(['bank', 'host', 'disk']), bytes: count })),
    key: z.looseObject({ kty: z.string() }),
  }),
}) as unknown as z.ZodType<Heartbeat>
