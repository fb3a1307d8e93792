import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sha256 } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Goldens } from '@graft/sdk/format/manifest.ts'

/** infra/samples/adapters/<name>: a peer's own output beside the task it was trained for. */
export interface Sample {
  name: string
  task: string
  description: string
  method: string
  /** The files of the tool that trained it. */
  files: Map<string, Uint8Array>
  /** Held-out cases that the adapter gets right. */
  prompts: { prompt: string; expected: string }[]
  goldens: Goldens
  logits: Uint8Array
}

interface TaskCard {
  task: string
  description: string
  method: string
  prompts: { prompt: string; expected: string }[]
}

interface GoldensFile {
  producer: string
  basePrecision: string
  logitsFile: string
  prompts: (Goldens['prompts'][number] & { text: string })[]
}

async function readJson<T>(path: string): Promise<T> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as T
  } catch (cause) {
    throw new GraftError(
      'ERR_STATE_DAMAGED',
      `${path} must be readable JSON: restore it (git checkout)`,
      { cause },
    )
  }
}

/** Reads one sample; files of the sample that are not the tool's own stay out. */
export async function readSample(samplesDir: string, name: string): Promise<Sample> {
  const folder = join(samplesDir, 'adapters', name)
  const card = await readJson<TaskCard>(join(folder, 'task.json'))
  const golden = await readJson<GoldensFile>(join(samplesDir, 'goldens', `${name}.json`))
  const logits = new Uint8Array(await readFile(join(samplesDir, 'goldens', golden.logitsFile)))
  const files = new Map<string, Uint8Array>()
  for (const file of (await readdir(folder)).sort())
    if (file !== 'task.json') files.set(file, new Uint8Array(await readFile(join(folder, file))))
  const goldens: Goldens = {
    producer: golden.producer,
    basePrecision: golden.basePrecision,
    logits: { sha256: await sha256(logits), size: logits.length },
    prompts: golden.prompts.map(({ tokenIds, positions, greedy }) => ({
      tokenIds,
      positions,
      greedy,
    })),
  }
  return { name, ...card, files, goldens, logits }
}

/** Names of all samples, in order. */
export async function sampleNames(samplesDir: string): Promise<string[]> {
  const entries = await readdir(join(samplesDir, 'adapters'), { withFileTypes: true })
  return entries
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name)
    .sort()
}
