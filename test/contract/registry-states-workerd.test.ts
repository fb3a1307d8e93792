import { afterAll } from 'vitest'
import { ISSUER, SETUP_CODE } from '../registry/fixtures.ts'
import { versionStates } from '../registry/version-states.ts'
import { openWorkerd } from './registry-workerd.ts'

const opening = openWorkerd(SETUP_CODE, ISSUER)
afterAll(async () => (await opening).close())

versionStates('D1 in workerd', async () => (await opening).app as never)
