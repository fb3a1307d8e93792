import { createNodeRegistry } from '@graft/registry/node/create-node-registry.ts'
import { afterAll } from 'vitest'
import { ISSUER, SETUP_CODE, temporaryFolder } from './fixtures.ts'
import { versionStates } from './version-states.ts'

const folder = temporaryFolder()
const opening = createNodeRegistry({
  stateDir: folder.path,
  issuerName: ISSUER,
  setupCode: SETUP_CODE,
})
afterAll(async () => {
  await (await opening).close()
  folder.clean()
})

versionStates('node:sqlite', async () => (await opening).app)
