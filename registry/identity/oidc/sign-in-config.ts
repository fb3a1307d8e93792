import { GraftError } from '@graft/sdk/format/errors.ts'
import * as z from 'zod'
import type { SignInConfig } from '../../deps.ts'

const schema = z.strictObject({
  publicUrl: z.url({ protocol: /^https?$/ }).regex(/[^/]$/, 'must not end in "/"'),
  providers: z
    .array(
      z.strictObject({
        id: z.string().regex(/^[a-z0-9-]{1,32}$/),
        name: z.string().min(1).max(60),
        issuer: z.url({ protocol: /^https?$/ }),
        clientId: z.string().min(1),
        clientSecret: z.string().min(1).nullable(),
      }),
    )
    .max(10),
})

/** @throws ERR_STATE_DAMAGED that names the field and never its value */
export function parseSignIn(text: string, where: string): SignInConfig {
  let why = 'JSON'
  try {
    const parsed = schema.safeParse(JSON.parse(text))
    if (parsed.success) return parsed.data
    const issue = parsed.error.issues[0]!
    why = `right at ${issue.path.join('.')}: ${issue.message}`
  } catch {}
  throw new GraftError('ERR_STATE_DAMAGED', `${where} must be ${why}`)
}
