import { afterAll } from 'vitest'
import { ISSUER, SETUP_CODE } from '../registry/fixtures.ts'
import { tokensContract } from '../registry/tokens.ts'
import { openWorkerd } from './registry-workerd.ts'

const opening = openWorkerd(SETUP_CODE, ISSUER)
afterAll(async () => (await opening).close())

tokensContract('workerd', async () => ({ app: (await opening).app as never }))
