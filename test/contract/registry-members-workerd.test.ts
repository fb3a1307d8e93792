import { afterAll } from 'vitest'
import { ISSUER, SETUP_CODE } from '../registry/fixtures.ts'
import { membersContract } from '../registry/members.ts'
import { openWorkerd } from './registry-workerd.ts'

const opening = openWorkerd(SETUP_CODE, ISSUER)
afterAll(async () => (await opening).close())

membersContract('workerd', async () => ({ app: (await opening).app as never }))
