import { dirname, join } from 'node:path'
import { sha256 } from '@graft/sdk/format/digest.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { Goldens } from '@graft/sdk/format/manifest.ts'
import { parseGoldens } from '@graft/sdk/format/statements.ts'
import { readRequired } from './files.ts'

type Fields = Record<string, unknown>

/** How a recipe worked and what its prompts said: for people, not signed. Anything else unknown is refused. */
const NOTES = ['attention', 'vocab']
const PROMPT_NOTES = ['text', 'baseLogitsOffset', 'adaptedLogitsOffset']

const without = (fields: Fields, names: string[]): Fields =>
  Object.fromEntries(Object.entries(fields).filter(([name]) => !names.includes(name)))

/**
 * `{ producer, basePrecision, logitsFile, prompts: [{ tokenIds, positions, greedy }] }` and notes; `logitsFile` is a
 * safetensors file beside it with `base.<i>` and `adapted.<i>`, f32 [positions, vocab].
 */
export async function readGoldens(
  path: string,
): Promise<{ goldens: Goldens; logits: Uint8Array<ArrayBuffer> }> {
  let json: Fields
  try {
    json = JSON.parse(new TextDecoder().decode(await readRequired(path)))
  } catch (cause) {
    if (cause instanceof GraftError) throw cause
    throw new GraftError('ERR_JSON_INVALID', `${path} must be JSON`, { cause })
  }
  const { logitsFile, prompts, ...rest } = without(json, NOTES)
  if (typeof logitsFile !== 'string')
    throw new GraftError(
      'ERR_MANIFEST_INVALID',
      expected(`${path}: logitsFile`, 'a file name', logitsFile),
    )
  const logits = await readRequired(join(dirname(path), logitsFile))
  const goldens = parseGoldens({
    ...rest,
    logits: { sha256: await sha256(logits), size: logits.length },
    prompts: Array.isArray(prompts)
      ? prompts.map((prompt: Fields) => without(prompt, PROMPT_NOTES))
      : prompts,
  })
  return { goldens, logits }
}
