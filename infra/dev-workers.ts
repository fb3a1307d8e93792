/** `npm run dev:workers`: the Worker as wrangler runs it locally, a runner, the samples published, a demo, then serving. */
import { runStack } from './dev/run-stack.ts'
import { parseOptions, USAGE } from './dev-workers/options.ts'
import { startWorkersStack } from './dev-workers/workers-stack.ts'

process.exitCode = await runStack(
  USAGE,
  () => parseOptions(process.argv.slice(2)),
  startWorkersStack,
)
