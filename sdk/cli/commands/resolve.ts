import { type Digest, parseDigest } from '@graft/sdk/format/digest.ts'
import type { OperationKind } from '@graft/sdk/format/operations.ts'
import { type CliContext, registryOf } from '../context.ts'
import { bytes, facts } from '../text.ts'

/** `graft resolve <ref>`: which version a reference means now. */
export async function resolveCommand(
  context: CliContext,
  ref: string,
  flags: { base?: string; operations?: string },
): Promise<void> {
  const base: Digest | undefined = flags.base ? parseDigest(flags.base, '--base') : undefined
  const operations = flags.operations?.split(',') as OperationKind[] | undefined
  const found = await registryOf(context).resolve({
    ref,
    ...(base ? { base } : {}),
    ...(operations ? { operations } : {}),
  })
  context.output.result(found, () =>
    facts([
      ['version', `${found.name}@${found.version}`],
      ['digest', found.digest],
      ['base', `${found.base.name} ${found.base.digest}`],
      ['operations', found.operations.join(', ')],
      ['size', bytes(found.size)],
      ['visibility', found.visibility],
      ...found.skipped.map(({ version, reason }): [string, string] => [
        'passed over',
        `${version}: ${reason}`,
      ]),
    ]),
  )
}
