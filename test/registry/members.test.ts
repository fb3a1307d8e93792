import { createNodeRegistry } from '@graft/registry/node/create-node-registry.ts'
import { afterAll } from 'vitest'
import { ISSUER, SETUP_CODE, temporaryFolder } from './fixtures.ts'
import { membersContract } from './members.ts'

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

membersContract('Node', async () => opening)
