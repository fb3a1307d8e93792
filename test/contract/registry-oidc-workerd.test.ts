import { afterAll } from 'vitest'
import { ISSUER, SETUP_CODE } from '../registry/fixtures.ts'
import { startIssuer } from '../registry/local-issuer.ts'
import { oidcSignInContract, signInConfig } from '../registry/oidc-sign-in.ts'
import { openWorkerd } from './registry-workerd.ts'

const opening = (async () => {
  const issuer = await startIssuer('ES256')
  const vars = { SIGN_IN: JSON.stringify(signInConfig(issuer)) }
  return { issuer, workerd: await openWorkerd(SETUP_CODE, ISSUER, vars) }
})()
afterAll(async () => {
  const { issuer, workerd } = await opening
  await workerd.close()
  await issuer.close()
})

oidcSignInContract('workerd', async () => {
  const { issuer, workerd } = await opening
  return { app: workerd.app as never, issuer }
})
