import type { BaseTensor } from '@graft/sdk/format/base-identity.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { toFloat32 } from '@graft/sdk/format/dtypes.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Manifest } from '@graft/sdk/format/manifest.ts'
import { readSafetensors } from '@graft/sdk/format/safetensors.ts'
import { verifyAdapter } from '@graft/sdk/format/verify-adapter.ts'
import type { LoadedAdapter } from '../engine/engine.ts'
import { knownManifest, sha256Of } from './version-record.ts'

function manifestOf(record: Uint8Array, digest: Digest): Manifest {
  const manifest = knownManifest(record, digest)
  if (manifest) return manifest
  throw new GraftError(
    'ERR_DIGEST_MISMATCH',
    `the version record of ${digest} changed while it stood in memory; nothing was loaded`,
  )
}

/** Proves the tensors against a verified record and the base. @throws as verifyAdapter */
export async function proveTensors(
  record: Uint8Array,
  digest: Digest,
  file: Uint8Array,
  base: readonly BaseTensor[],
): Promise<void> {
  await verifyAdapter(manifestOf(record, digest), file, base, sha256Of)
}

/** A proven adapter as an engine takes it: every tensor as f32, all of them in one piece of shared memory. */
export function convertTensors(
  record: Uint8Array,
  digest: Digest,
  file: Uint8Array,
): LoadedAdapter {
  const { operations } = manifestOf(record, digest)
  const read = [...readSafetensors(file).tensors]
  const counts = read.map(([, { shape }]) => shape.reduce((n, dim) => n * dim, 1))
  const memory = new SharedArrayBuffer(4 * counts.reduce((sum, n) => sum + n, 0))
  const tensors: LoadedAdapter['tensors'] = new Map()
  let at = 0
  for (const [i, [name, { dtype, shape, data }]] of read.entries()) {
    const values = new Float32Array(memory, at, counts[i]!)
    values.set(toFloat32(dtype, data))
    at += values.byteLength
    tensors.set(name, { shape, data: values })
  }
  return { digest, operations, tensors }
}
