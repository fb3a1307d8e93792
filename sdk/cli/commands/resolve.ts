import { type CliContext, registryOf } from '../context.ts'
import { type DemandFlags, demandsOf } from '../demand-flags.ts'
import { skippedLines, stateLines } from '../state-text.ts'
import { bytes, facts } from '../text.ts'

/** `graft resolve <ref>`: which version a reference means now. */
export async function resolveCommand(
  context: CliContext,
  ref: string,
  flags: DemandFlags,
): Promise<void> {
  const found = await registryOf(context).resolve({ ref, ...demandsOf(flags) })
  const row =
    (name: string) =>
    (value: string): [string, string] => [name, value]
  context.output.result(found, () =>
    facts([
      ['version', `${found.name}@${found.version}`],
      ['digest', found.digest],
      [
        'base',
        `${found.base.name} ${found.base.digest}${found.baseMatch ? ' (same structure; other bytes are possible)' : ''}`,
      ],
      ['operations', found.operations.join(', ')],
      ['size', bytes(found.size)],
      ['visibility', found.visibility],
      ...stateLines(found.state).map(row('state')),
      ...skippedLines(found).map(row('passed over')),
    ]),
  )
}
