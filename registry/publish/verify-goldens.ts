import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { Goldens } from '@graft/sdk/format/manifest.ts'
import {
  MAX_SAFETENSORS_HEADER_BYTES,
  parseSafetensorsHeader,
  type TensorEntry,
} from '@graft/sdk/format/safetensors.ts'
import type { Bytes } from '../stores/blob-store.ts'

/** The length prefix and the header, and nothing of the data. */
async function readHeader(body: Bytes): Promise<Uint8Array> {
  let head = new Uint8Array()
  for await (const chunk of body as unknown as AsyncIterable<Uint8Array>) {
    const joined = new Uint8Array(head.length + chunk.length)
    joined.set(head)
    joined.set(chunk, head.length)
    head = joined
    if (head.length < 8) continue
    const length = Number(new DataView(head.buffer).getBigUint64(0, true))
    // A forged length is the parser's to refuse; what is here already is enough for that.
    if (length > MAX_SAFETENSORS_HEADER_BYTES || head.length >= 8 + length) break
  }
  return head
}

/**
 * The logits' file holds base.<i> and adapted.<i>, [positions, vocab], for every prompt that states positions; a
 * runner could not admit the adapter otherwise. The numbers themselves are the runner's to reproduce.
 * @throws ERR_SAFETENSORS_INVALID, ERR_TENSOR_MISSING, ERR_TENSOR_SHAPE
 */
export async function verifyGoldens(goldens: Goldens, body: Bytes): Promise<void> {
  const { tensors } = parseSafetensorsHeader(await readHeader(body), goldens.logits.size)
  const byName = new Map(tensors.map((tensor): [string, TensorEntry] => [tensor.name, tensor]))
  let vocab: number | undefined
  for (const [i, { positions }] of goldens.prompts.entries()) {
    if (positions.length === 0) continue
    for (const name of [`base.${i}`, `adapted.${i}`]) {
      const tensor = byName.get(name)
      if (!tensor)
        throw new GraftError('ERR_TENSOR_MISSING', `the goldens' logits hold no tensor ${name}`)
      vocab ??= tensor.shape[1]
      const want = [positions.length, vocab]
      if (tensor.dtype !== 'F32' || tensor.shape.join() !== want.join())
        throw new GraftError(
          'ERR_TENSOR_SHAPE',
          expected(`goldens: ${name}`, `F32 [${want}]`, `${tensor.dtype} [${tensor.shape}]`),
        )
    }
  }
}
