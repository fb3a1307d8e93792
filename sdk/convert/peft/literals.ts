import { encodeBase64 } from '@graft/sdk/format/base64url.ts'
import type { LiteralTensor } from '@graft/sdk/format/manifest.ts'
import { readTensor } from '@graft/sdk/format/tensor-source.ts'
import type { Collector } from '../compiled.ts'

/** A source tensor that no operation reads, kept for the way back. Only small ones: it is stored in the manifest. */
export async function takeLiteral(collector: Collector, key: string): Promise<LiteralTensor> {
  const { dtype, shape, data } = await readTensor(collector.use(key))
  return { key, dtype, shape, data: encodeBase64(data) }
}
