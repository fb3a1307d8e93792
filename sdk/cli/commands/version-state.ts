import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { isPackageName } from '@graft/sdk/format/parse-reference.ts'
import { isVersion } from '@graft/sdk/format/semver.ts'
import type { VersionStateAnswer } from '@graft/sdk/protocol/registry-api.ts'
import { type CliContext, registryOf, requireToken } from '../context.ts'
import { stateLines } from '../state-text.ts'

/** One version by its exact number: what is said of a range would be said of whatever comes next. */
function parseVersionOf(ref: string): { name: string; version: string } {
  const at = ref.lastIndexOf('@')
  const [name, version] = [ref.slice(0, at), ref.slice(at + 1)]
  if (at > 0 && isPackageName(name) && isVersion(version)) return { name, version }
  throw new GraftError('ERR_REFERENCE_INVALID', expected('the version', '@scope/name@x.y.z', ref))
}

function show({ output }: CliContext, answer: VersionStateAnswer): void {
  const { name, version, state, tags } = answer
  const said = stateLines(state).join(', ') || 'nothing is said of it'
  output.result(answer, () => `${name}@${version}: ${said}\n`)
  const named = Object.entries(tags).filter(([, tagged]) => tagged === version)
  if (state.yanked || state.tombstoned)
    for (const [tag] of named)
      output.log(`the tag ${tag} still names it and is refused until you move it`)
  if (tags['latest']) output.log(`latest is ${tags['latest']}`)
}

export interface YankFlags {
  reason?: string
  undo?: boolean
}

/** `graft yank <ref>`: ranges and tags choose it no more; digests and lock files still get it. */
export async function yankCommand(
  context: CliContext,
  ref: string,
  { reason, undo = false }: YankFlags,
): Promise<void> {
  const { name, version } = parseVersionOf(ref)
  if ((reason === undefined) !== undo)
    throw new GraftError('ERR_REQUEST_INVALID', 'give either --reason "why", or --undo')
  requireToken(context)
  const registry = registryOf(context)
  show(
    context,
    reason === undefined
      ? await registry.unyank(name, version)
      : await registry.yank(name, version, reason),
  )
}

/** `graft deprecate <ref> [message...]`: chosen only where nothing else fits, and then with the message. */
export async function deprecateCommand(
  context: CliContext,
  ref: string,
  words: string[],
  { undo = false }: { undo?: boolean },
): Promise<void> {
  const { name, version } = parseVersionOf(ref)
  if ((words.length === 0) !== undo)
    throw new GraftError('ERR_REQUEST_INVALID', 'give either a message, or --undo')
  requireToken(context)
  const registry = registryOf(context)
  show(
    context,
    undo
      ? await registry.undeprecate(name, version)
      : await registry.deprecate(name, version, words.join(' ')),
  )
}

/** `graft tombstone <ref>`: the bytes go for good; for law and leaked secrets. */
export async function tombstoneCommand(
  context: CliContext,
  ref: string,
  { reason }: { reason: string; forever: boolean },
): Promise<void> {
  const { name, version } = parseVersionOf(ref)
  requireToken(context)
  show(context, await registryOf(context).tombstone(name, version, reason))
}
