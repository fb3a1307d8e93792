/** A registry in a process of its own, as in production: argv[2] is its folder, argv[3] the setup code. Prints its URL. */
import { createNodeRegistry } from '@graft/registry/node/create-node-registry.ts'
import { listen } from '../../../infra/listen.ts'

const [, , stateDir, setupCode] = process.argv
if (!stateDir || !setupCode) throw new Error('usage: registry-process.ts <folder> <setup code>')
const registry = await createNodeRegistry({ stateDir, issuerName: 'graft-bench', setupCode })
const server = await listen(registry.app, {
  port: 0,
  what: 'a port for the registry',
  advice: 'free one',
})
process.stdout.write(`${server.url}\n`)
// The bench that started it holds this end: also when it is killed, nothing is left running.
process.stdin.resume()
process.stdin.on('close', async () => {
  await server.drain(100)
  await registry.close()
})
