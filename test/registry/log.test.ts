import { createNodeRegistry } from '@graft/registry/node/create-node-registry.ts'
import { ISSUER, SETUP_CODE, temporaryFolder } from './fixtures.ts'
import { logContract } from './log-contract.ts'

logContract('Node', async (witness) => {
  const folder = temporaryFolder()
  const registry = await createNodeRegistry({
    stateDir: folder.path,
    issuerName: ISSUER,
    setupCode: SETUP_CODE,
    witnesses: [witness],
  })
  return {
    app: registry.app,
    async close() {
      await registry.close()
      folder.clean()
    },
  }
})
