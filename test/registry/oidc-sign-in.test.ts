import { createNodeRegistry } from '@graft/registry/node/create-node-registry.ts'
import { afterAll } from 'vitest'
import { ISSUER, SETUP_CODE, temporaryFolder } from './fixtures.ts'
import { startIssuer } from './local-issuer.ts'
import { oidcSignInContract, signInConfig } from './oidc-sign-in.ts'

const closing: (() => unknown)[] = []
afterAll(async () => {
  for (const close of closing.reverse()) await close()
})

oidcSignInContract('Node', async () => {
  const issuer = await startIssuer()
  const folder = temporaryFolder()
  const registry = await createNodeRegistry({
    ...{ stateDir: folder.path, issuerName: ISSUER, setupCode: SETUP_CODE },
    signIn: signInConfig(issuer),
  })
  closing.push(issuer.close, folder.clean, () => registry.close())
  return { app: registry.app, issuer }
})
