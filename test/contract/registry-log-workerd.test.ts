import { ISSUER, SETUP_CODE } from '../registry/fixtures.ts'
import { logContract } from '../registry/log-contract.ts'
import { openWorkerd } from './registry-workerd.ts'

logContract('workerd', async (witness) => {
  const { app, close } = await openWorkerd(SETUP_CODE, ISSUER, { WITNESSES: witness })
  return { app: app as never, close }
})
