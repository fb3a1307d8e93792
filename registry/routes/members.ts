import { GraftError } from '@graft/sdk/format/errors.ts'
import type { JoinRequest } from '@graft/sdk/protocol/registry-api.ts'
import { Hono } from 'hono'
import * as z from 'zod'
import type { RegistryDeps } from '../deps.ts'
import { readJson } from '../http/body.ts'
import type { RegistryEnv } from '../http/context.ts'
import { authenticate } from '../identity/authenticate.ts'
import { invite, join, listInvitations, withdrawInvitation } from '../identity/invitations.ts'
import { listMembers, removeMember, setMember } from '../identity/members.ts'
import { nameSchema } from '../identity/names.ts'
import { ROLES } from '../identity/roles.ts'

const MAX_INVITATION_SECONDS = 30 * 86_400

const memberSchema = z.strictObject({ user: nameSchema, role: z.enum(ROLES) })
const invitationSchema = z.strictObject({
  role: z.enum(ROLES),
  expiresIn: z.number().int().min(1).max(MAX_INVITATION_SECONDS),
})
const joinSchema: z.ZodType<JoinRequest> = z.strictObject({
  code: z.string().min(1).max(100),
  user: nameSchema.exactOptional(),
})

const SECRET = { 'cache-control': 'no-store' }

/** Who belongs to an organisation, and how they come to. */
export const memberRoutes = (deps: RegistryDeps) =>
  new Hono<RegistryEnv>()
    .get('/v1/orgs/:org/members', async (c) => {
      const caller = await authenticate(deps, c)
      return c.json({ members: await listMembers(deps, caller, c.req.param('org')) }, 200, SECRET)
    })
    .post('/v1/orgs/:org/members', async (c) => {
      const caller = await authenticate(deps, c)
      const request = await readJson(c, memberSchema, deps.limits.json)
      await setMember(deps, caller, c.req.param('org'), request)
      return c.json({})
    })
    .delete('/v1/orgs/:org/members/:user', async (c) => {
      const caller = await authenticate(deps, c)
      await removeMember(deps, caller, c.req.param('org'), c.req.param('user'))
      return c.json({})
    })
    .get('/v1/orgs/:org/invitations', async (c) => {
      const caller = await authenticate(deps, c)
      const invitations = await listInvitations(deps, caller, c.req.param('org'))
      return c.json({ invitations }, 200, SECRET)
    })
    .post('/v1/orgs/:org/invitations', async (c) => {
      const caller = await authenticate(deps, c)
      const request = await readJson(c, invitationSchema, deps.limits.json)
      return c.json(await invite(deps, caller, c.req.param('org'), request), 200, SECRET)
    })
    .delete('/v1/orgs/:org/invitations/:id', async (c) => {
      const caller = await authenticate(deps, c)
      await withdrawInvitation(deps, caller, c.req.param('org'), c.req.param('id'))
      return c.json({})
    })
    .post('/v1/invitations/accept', async (c) => {
      const signedIn = c.req.header('authorization') !== undefined
      const caller = signedIn ? await authenticate(deps, c) : null
      const { code, user } = await readJson(c, joinSchema, deps.limits.json)
      if ((caller === null) === (user === undefined))
        throw new GraftError(
          'ERR_REQUEST_INVALID',
          'body.user must be given by a new user, and left out with a token of one’s own',
        )
      const who = caller ?? { newUser: user! }
      return c.json(await join(deps, who, code), 200, SECRET)
    })
