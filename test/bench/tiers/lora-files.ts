import type { ModelConfig } from '@graft/runner/checkpoint/model-config.ts'
import { linearSites } from '@graft/runner/engine/graph/sites.ts'
import { sha256Of } from '@graft/runner/tiers/version-record.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { type SigningKey, signEnvelope } from '@graft/sdk/format/jws.ts'
import { JWS_TYPES, MANIFEST_SCHEMA, type Manifest } from '@graft/sdk/format/manifest.ts'
import type { Operation } from '@graft/sdk/format/operations.ts'
import { manifestBytes } from '@graft/sdk/format/parse-manifest.ts'
import { writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import type { BaseRecord, VersionRecord } from '@graft/sdk/protocol/registry-api.ts'
import { seededUniform } from '../random-base.ts'

export interface LoraFile {
  digest: Digest
  manifest: Manifest
  safetensors: Uint8Array<ArrayBuffer>
}

/** Values around zero whose products with a hidden state stay in range at every site. */
const SPREAD = 0.05

/**
 * Makes LoRA files in bf16, as trainers save them, on all seven linears of every layer: each is a window, at an offset
 * of its own, into one pool of seeded values. All bytes of the tensors differ between two files, and making one costs
 * no more than hashing it.
 */
export function createLoraFiles(config: ModelConfig, base: BaseRecord, rank: number) {
  const sites = linearSites(config)
  const values = sites.reduce((sum, site) => sum + rank * (site.in + site.out), 0)
  /** Odd and prime, so that windows never line up. */
  const stride = 1009
  let pool = new Uint16Array()

  const growPool = (length: number): void => {
    if (pool.length >= length) return
    const halves = new Uint16Array(seededUniform(1, length, SPREAD).buffer)
    // The upper half of an f32 is its bf16.
    pool = Uint16Array.from({ length }, (_, i) => halves[2 * i + 1]!)
  }
  growPool(values + 1100 * stride)

  return (number: number, name = `@bench/lora-${number}`): LoraFile => {
    let at = number * stride
    const tensors = new Map<string, { dtype: string; shape: number[]; data: Uint8Array }>()
    const take = (tensor: string, shape: [number, number]): string => {
      const length = shape[0] * shape[1]
      const data = new Uint8Array(pool.buffer, 2 * at, 2 * length)
      at += length
      tensors.set(tensor, { dtype: 'BF16', shape, data })
      return tensor
    }
    const operations = sites.map(
      ({ path, in: inner, out }): Operation => ({
        op: 'low_rank',
        site: path,
        in: inner,
        out,
        rank,
        scale: '1',
        slots: { A: take(`${path}.A`, [rank, inner]), B: take(`${path}.B`, [out, rank]) },
      }),
    )
    const safetensors = writeSafetensors(tensors)
    const manifest: Manifest = {
      schema: MANIFEST_SCHEMA,
      name,
      version: '1.0.0',
      base: base.identity,
      method: { family: 'lora', flags: [] },
      operations,
      tensors: [...tensors].map(([tensor, { dtype, shape, data }]) => {
        return { name: tensor, dtype, shape, sha256: sha256Of(data) }
      }),
      files: [
        {
          path: 'adapter.safetensors',
          size: safetensors.length,
          sha256: sha256Of(safetensors),
          role: 'canonical',
          mediaType: 'application/octet-stream',
        },
      ],
      origin: null,
      crit: [],
    }
    return { digest: sha256Of(manifestBytes(manifest)), manifest, safetensors }
  }
}

/** The version record that a registry would send: signed, without goldens. */
export async function signedRecord(
  { manifest, digest }: LoraFile,
  key: SigningKey,
): Promise<Uint8Array> {
  const at = new Date(0).toISOString()
  const record: VersionRecord = {
    digest,
    envelope: await signEnvelope(manifestBytes(manifest), JWS_TYPES.manifest, [key]),
    attestations: [],
    keys: [{ kid: key.kid, jwk: key.publicJwk, status: 'active', createdAt: at }],
    publishedAt: at,
  }
  return new TextEncoder().encode(JSON.stringify(record))
}
