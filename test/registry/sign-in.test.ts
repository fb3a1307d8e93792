import { createNodeRegistry } from '@graft/registry/node/create-node-registry.ts'
import { afterAll } from 'vitest'
import { ISSUER, SETUP_CODE, temporaryFolder } from './fixtures.ts'
import { signInContract } from './sign-in.ts'

const folder = temporaryFolder()
let now = Date.now()
const opening = createNodeRegistry({
  stateDir: folder.path,
  issuerName: ISSUER,
  setupCode: SETUP_CODE,
  clock: () => new Date(now),
})
afterAll(async () => {
  await (await opening).close()
  folder.clean()
})

signInContract('Node', async () => ({
  app: (await opening).app,
  wait: (seconds) => {
    now += seconds * 1000
  },
}))
