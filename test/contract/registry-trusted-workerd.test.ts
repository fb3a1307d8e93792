import { afterAll } from 'vitest'
import { ISSUER, SETUP_CODE } from '../registry/fixtures.ts'
import { startIssuer } from '../registry/local-issuer.ts'
import { trustedPublishingContract } from '../registry/trusted-publishing.ts'
import { openWorkerd } from './registry-workerd.ts'

const opening = (async () => {
  const [issuer, stranger] = [await startIssuer(), await startIssuer()]
  const workerd = await openWorkerd(SETUP_CODE, ISSUER, { TRUSTED_ISSUERS: issuer.url })
  return { issuer, stranger, workerd }
})()
afterAll(async () => {
  const { issuer, stranger, workerd } = await opening
  await workerd.close()
  await issuer.close()
  await stranger.close()
})

trustedPublishingContract('workerd', async () => {
  const { workerd, ...issuers } = await opening
  return { app: workerd.app as never, ...issuers }
})
