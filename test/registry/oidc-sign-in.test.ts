import { afterAll } from 'vitest'
import { openRegistry } from './fixtures.ts'
import { startIssuer } from './local-issuer.ts'
import { oidcSignInContract, signInConfig } from './oidc-sign-in.ts'

const closing: (() => unknown)[] = []
afterAll(async () => {
  for (const close of closing.reverse()) await close()
})

oidcSignInContract('Node', async () => {
  const issuer = await startIssuer()
  const registry = await openRegistry({ signIn: signInConfig(issuer) })
  closing.push(issuer.close, registry.close)
  return { app: registry.app, issuer }
})
