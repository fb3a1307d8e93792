/** `npm start`: registry, edge and a runner on this machine, the samples published, a demo, then serving. */
import { startStack } from './dev/local-stack.ts'
import { parseOptions, USAGE } from './dev/options.ts'
import { runStack } from './dev/run-stack.ts'

process.exitCode = await runStack(
  USAGE,
  () => parseOptions(process.argv.slice(2), process.env),
  startStack,
)
