import { dirname, join } from 'node:path'
import { sha256 } from '@graft/sdk/format/digest.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { Goldens } from '@graft/sdk/format/manifest.ts'
import { parseGoldens } from '@graft/sdk/format/statements.ts'
import { readRequired } from './files.ts'

/**
 * `{ producer, basePrecision, logitsFile, prompts }`; `logitsFile` is a safetensors file beside it with `base.<i>` and
 * `adapted.<i>`. A prompt may carry its `text`, which is for people and is not signed.
 */
export async function readGoldens(
  path: string,
): Promise<{ goldens: Goldens; logits: Uint8Array<ArrayBuffer> }> {
  let json: Record<string, unknown>
  try {
    json = JSON.parse(new TextDecoder().decode(await readRequired(path)))
  } catch (cause) {
    if (cause instanceof GraftError) throw cause
    throw new GraftError('ERR_JSON_INVALID', `${path} must be JSON`, { cause })
  }
  const { logitsFile, prompts, ...rest } = json
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
      ? prompts.map(({ text: _, ...prompt }: Record<string, unknown>) => prompt)
      : prompts,
  })
  return { goldens, logits }
}
