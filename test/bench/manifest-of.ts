import type { LoadedAdapter } from '@graft/runner/engine/engine.ts'
import { sha256 } from '@graft/sdk/format/digest.ts'
import { MANIFEST_SCHEMA, type Manifest } from '@graft/sdk/format/manifest.ts'
import { writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import type { BaseRecord } from '@graft/sdk/protocol/registry-api.ts'

/** An adapter in memory as what is published: the manifest and its tensor file. */
export async function manifestOf(
  { operations, tensors }: LoadedAdapter,
  base: BaseRecord,
  name: string,
): Promise<{ manifest: Manifest; safetensors: Uint8Array<ArrayBuffer> }> {
  const rows = new Map(
    [...tensors].map(([tensor, { shape, data }]) => [
      tensor,
      { dtype: 'F32', shape, data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) },
    ]),
  )
  const safetensors = writeSafetensors(rows)
  const manifest: Manifest = {
    schema: MANIFEST_SCHEMA,
    name,
    version: '1.0.0',
    base: base.identity,
    method: { family: operations[0]!.op, flags: [] },
    operations,
    tensors: await Promise.all(
      [...rows].map(async ([tensor, { dtype, shape, data }]) => {
        return { name: tensor, dtype, shape, sha256: await sha256(data) }
      }),
    ),
    files: [
      {
        path: 'adapter.safetensors',
        size: safetensors.length,
        sha256: await sha256(safetensors),
        role: 'canonical',
        mediaType: 'application/octet-stream',
      },
    ],
    origin: null,
    crit: [],
  }
  return { manifest, safetensors }
}
