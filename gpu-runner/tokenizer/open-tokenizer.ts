import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { createTokenizer, type TextCodec } from './tokenizer.ts'

async function readText(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8')
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw e
  }
}

async function readJson(path: string): Promise<Record<string, unknown> | null> {
  const text = await readText(path)
  if (text === null) return null
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new GraftError('ERR_CHECKPOINT_INVALID', `${path} must be JSON`, { cause })
  }
}

/** The tokenizer of a Hugging Face checkpoint folder. @throws ERR_CHECKPOINT_INVALID */
export async function openTokenizer(checkpoint: string, vocab: number): Promise<TextCodec> {
  const [tokenizer, config, generation, model, chatTemplate] = await Promise.all([
    readJson(join(checkpoint, 'tokenizer.json')),
    readJson(join(checkpoint, 'tokenizer_config.json')),
    readJson(join(checkpoint, 'generation_config.json')),
    readJson(join(checkpoint, 'config.json')),
    readText(join(checkpoint, 'chat_template.jinja')),
  ])
  if (!tokenizer)
    throw new GraftError(
      'ERR_CHECKPOINT_INVALID',
      `${checkpoint} must hold tokenizer.json; convert a slow tokenizer with transformers first`,
    )
  return createTokenizer({
    tokenizer,
    config: config ?? {},
    generation: [generation ?? {}, model ?? {}],
    chatTemplate,
    vocab,
  })
}
