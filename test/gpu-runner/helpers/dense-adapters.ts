import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import { sha256 } from '@graft/sdk/format/digest.ts'
import type { Goldens } from '@graft/sdk/format/manifest.ts'
import { readSafetensors, type Tensor, writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import type { BaseRecord } from '@graft/sdk/protocol/registry-api.ts'
import { readFolder } from '../../sdk/convert/fixtures.ts'
import { type Published, signVersion } from './published.ts'

/** Adapters of dense operations on a base of two layers, with PEFT's logits: test/sdk/convert/peft/dense/make.py. */
export const DENSE = join(import.meta.dirname, '../../sdk/convert/peft/dense/fixtures')

const read = async (name: string) => new Uint8Array(await readFile(join(DENSE, name)))

export interface DenseFacts {
  peft: string
  prompts: number[][]
}
export const readDenseFacts = async (): Promise<DenseFacts> =>
  JSON.parse(await readFile(join(DENSE, 'goldens.json'), 'utf8'))

/** @param proof of another adapter, which the goldens of this one then are. @default its own */
export async function publishDense(
  base: BaseRecord,
  name: string,
  proof: string = name,
): Promise<Published> {
  const files = readFolder(join(DENSE, name))
  const { manifest, safetensors: file } = await importAdapter({
    ...{ files, base, name: `@peft/${name}`, version: '1.0.0' },
  })
  const { peft, prompts } = await readDenseFacts()
  const { tensors } = readSafetensors(await read('goldens.safetensors'))
  const logits = writeSafetensors(
    new Map(
      prompts.flatMap((_, i): [string, Tensor][] => [
        [`base.${i}`, tensors.get(`base.${i}`)!],
        [`adapted.${i}`, tensors.get(`${proof}.${i}`)!],
      ]),
    ),
  )
  const goldens: Goldens = {
    producer: `peft@${peft}`,
    basePrecision: 'fp32',
    logits: { sha256: await sha256(logits), size: logits.length },
    prompts: prompts.map((tokenIds) => ({
      tokenIds,
      positions: tokenIds.map((_, at) => at),
      greedy: { tokenIds: [], margins: [] },
    })),
  }
  return signVersion({ manifest, file, goldens: { goldens, blob: logits } })
}
