import type { BaseTensor } from '@graft/sdk/format/base-identity.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { writeNumbers } from '@graft/sdk/format/indices.ts'
import type { Manifest } from '@graft/sdk/format/manifest.ts'
import { readSafetensors } from '@graft/sdk/format/safetensors.ts'
import { verifyAdapter } from '@graft/sdk/format/verify-adapter.ts'
import type { LoadedAdapter } from '../engine/engine.ts'
import { knownManifest, nodeHash } from './version-record.ts'

function manifestOf(record: Uint8Array, digest: Digest): Manifest {
  const manifest = knownManifest(record, digest)
  if (manifest) return manifest
  throw new GraftError(
    'ERR_DIGEST_MISMATCH',
    `the version record of ${digest} changed while it stood in memory; nothing was loaded`,
  )
}

/**
 * Proves the tensors against a verified record and the base.
 * @param fileDigest of `file`, as computed when it came: a large file is not hashed twice
 * @throws as verifyAdapter
 */
export async function proveTensors(
  record: Uint8Array,
  digest: Digest,
  file: Uint8Array,
  fileDigest: Digest,
  base: readonly BaseTensor[],
): Promise<void> {
  await verifyAdapter(manifestOf(record, digest), file, base, { createHash: nodeHash, fileDigest })
}

/**
 * A proven adapter as an engine takes it: every tensor as f32 (indices too, which are small), all of them in one piece of shared memory.
 * @param memory of at least the tensors' size as f32
 */
export function convertTensors(
  record: Uint8Array,
  digest: Digest,
  file: Uint8Array,
  memory: SharedArrayBuffer,
): LoadedAdapter {
  const { operations } = manifestOf(record, digest)
  const tensors: LoadedAdapter['tensors'] = new Map()
  let at = 0
  for (const [name, { dtype, shape, data }] of readSafetensors(file).tensors) {
    const count = shape.reduce((n, dim) => n * dim, 1)
    const values = new Float32Array(memory, at, count)
    writeNumbers(dtype, data, values)
    at += values.byteLength
    tensors.set(name, { shape, data: values })
  }
  return { digest, operations, tensors }
}
