import { sha256 } from '@graft/sdk/format/digest.ts'
import type { Manifest } from '@graft/sdk/format/manifest.ts'
import type { Dense } from '@graft/sdk/format/operations.ts'
import { manifestDigest } from '@graft/sdk/format/parse-manifest.ts'
import { type Tensor, writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import { slotsOf } from '@graft/sdk/format/slots.ts'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type Adapter, adapter, floats, openHouse, publish, publishRequest } from './fixtures.ts'

let house: Awaited<ReturnType<typeof openHouse>>
beforeAll(async () => {
  house = await openHouse()
})
afterAll(() => house.close())

const at = { op: 'dense', site: 'model.layers.0.self_attn.q_proj', in: 8, out: 8 } as const
const hadamard = (rank: number): Dense => ({
  ...{ ...at, form: 'hadamard', rank, scale: '1' },
  slots: { w1a: 'w1a', w1b: 'w1b', w2a: 'w2a', w2b: 'w2b' },
})
const ROTATION: Dense = {
  ...{ ...at, form: 'rotation', blockSize: 4, shared: false, slots: { Q: 'Q' } },
}
const SPECTRUM: Dense = {
  ...{ ...at, form: 'spectrum', frequencies: 3, scale: '9' },
  slots: { values: 'values', indices: 'indices' },
}

/** A version of one dense operation, with drawn weights; places of a spectrum are its diagonal's. */
async function denseAdapter(
  name: string,
  op: Dense,
  indices = [0, 1, 2, 0, 1, 2],
): Promise<Adapter> {
  const tensors = new Map(
    slotsOf(op).map(({ slot, tensor, shape }): [string, Tensor] => {
      const places = new Uint8Array(BigInt64Array.from(indices.map(BigInt)).buffer)
      const count = shape.reduce((n, dim) => n * dim, 1)
      return slot === 'indices'
        ? [tensor, { dtype: 'I64', shape, data: places }]
        : [tensor, { dtype: 'F32', shape, data: floats(count, 5) }]
    }),
  )
  const bytes = writeSafetensors(tensors)
  const plain = await adapter({ base: house.base, name })
  const file = { ...plain.manifest.files[0]!, size: bytes.length, sha256: await sha256(bytes) }
  const rows = [...tensors].map(async ([row, { dtype, shape, data }]) => {
    return { name: row, dtype, shape, sha256: await sha256(data) }
  })
  const manifest: Manifest = {
    ...plain.manifest,
    operations: [op],
    tensors: await Promise.all(rows),
    files: [file],
  }
  const digest = await manifestDigest(manifest)
  return { manifest, digest, files: new Map([[file.sha256, bytes]]), goldens: null }
}

it.each<[string, Dense, string]>([
  ['@acme/small', hadamard(2), 'low_rank'],
  ['@acme/large', hadamard(3), 'dense'],
  ['@acme/turned', ROTATION, 'dense'],
  ['@acme/waves', SPECTRUM, 'dense'],
])('%s is published, and resolves for runtimes with what it is run as', async (name, op, kind) => {
  const { call, token, key, base } = house
  const what = await denseAdapter(name, op)
  const published = await publish(call, token, what, await publishRequest(what, key))
  expect(published.body).toMatchObject({ state: 'published', digest: what.digest })
  const resolve = (operations: string) =>
    call('GET', `/v1/resolve?ref=${name}@^1&base=${base.digest}&operations=${operations}`)
  expect((await resolve('low_rank,scale,dense')).body.operations).toEqual([kind])
  const without = await resolve('low_rank,scale')
  expect(without.status).toBe(kind === 'low_rank' ? 200 : 404)
  if (kind === 'dense')
    expect(without.body.error.message).toContain(
      'needs dense, which the runtime does not support (it runs merged: start a runner with --merge request',
    )
})

it('places outside the matrix are refused before anything is visible', async () => {
  const { call, token, key } = house
  const what = await denseAdapter('@acme/outside', SPECTRUM, [0, 1, 8, 0, 1, 2])
  const { status, body } = await publish(call, token, what, await publishRequest(what, key))
  expect(status).toBe(422)
  expect(body.error).toMatchObject({
    code: 'ERR_MANIFEST_INVALID',
    message: expect.stringContaining('tensor indices: place 2'),
  })
  expect((await call('GET', '/v1/packages/@acme/outside')).status).toBe(404)
})
