import { createHash } from 'node:crypto'
import type { EngineInfo, PromptPrefix } from '../engine/engine.ts'
import type { Job } from './job.ts'

/** Tokens of one block: few enough that short prompts share, enough that keys cost little. */
export const PREFIX_BLOCK = 32

/**
 * Names each full block of a prompt and all that decides its keys and values: whose it is, the prepared base, the
 * adapters with their weights in the order asked, and every token up to its end. sha256, each over the one before.
 * The block of the last token is left out: at least one token is fed, for its logits.
 * @param shared blocks are shared between tenants; else the tenant is part of the key
 */
export function prefixKeys(
  { base, build, kvPrecision }: Pick<EngineInfo, 'base' | 'build' | 'kvPrecision'>,
  { tenant, adapters, tokenIds }: Pick<Job, 'tenant' | 'adapters' | 'tokenIds'>,
  shared: boolean,
): PromptPrefix {
  const root = JSON.stringify([
    'graft-prefix@1',
    shared ? null : tenant,
    base.digest,
    build,
    kvPrecision,
    adapters.map(({ digest, weight }) => [digest, weight]),
    PREFIX_BLOCK,
  ])
  let before = createHash('sha256').update(root).digest()
  const keys: string[] = []
  const blocks = Math.floor((tokenIds.length - 1) / PREFIX_BLOCK)
  const bytes = new Int32Array(PREFIX_BLOCK)
  for (let at = 0; at < blocks; at++) {
    bytes.set(tokenIds.slice(at * PREFIX_BLOCK, (at + 1) * PREFIX_BLOCK))
    before = createHash('sha256').update(before).update(bytes).digest()
    keys.push(before.toString('base64url'))
  }
  return { keys, block: PREFIX_BLOCK }
}
