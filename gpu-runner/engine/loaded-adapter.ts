import type { Digest } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { toNumbers } from '@graft/sdk/format/indices.ts'
import type { Manifest } from '@graft/sdk/format/manifest.ts'
import { manifestDigest } from '@graft/sdk/format/parse-manifest.ts'
import { readSafetensors } from '@graft/sdk/format/safetensors.ts'
import type { LoadedAdapter } from './engine.ts'

/** A verified manifest and its adapter.safetensors as an engine takes them: every tensor as f32. */
export async function loadedAdapterFromManifest(
  manifest: Manifest,
  safetensors: Uint8Array,
  digest?: Digest,
): Promise<LoadedAdapter> {
  const { tensors } = readSafetensors(safetensors)
  const loaded: LoadedAdapter['tensors'] = new Map()
  for (const row of manifest.tensors) {
    const tensor = tensors.get(row.name)
    if (!tensor)
      throw new GraftError(
        'ERR_TENSOR_MISSING',
        `${manifest.name}@${manifest.version}: adapter.safetensors lacks ${row.name}`,
      )
    loaded.set(row.name, { shape: tensor.shape, data: toNumbers(tensor.dtype, tensor.data) })
  }
  return {
    digest: digest ?? (await manifestDigest(manifest)),
    operations: manifest.operations,
    tensors: loaded,
  }
}
