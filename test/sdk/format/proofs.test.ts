import { openAdapter } from '@graft/convert/export-adapter.ts'
import { compareBase } from '@graft/sdk/format/base-compatibility.ts'
import { heldBytes } from '@graft/sdk/format/byte-source.ts'
import { sameFingerprint } from '@graft/sdk/format/fingerprint.ts'
import type { LowRank } from '@graft/sdk/format/operations.ts'
import { adapterProofs } from '@graft/sdk/format/proofs.ts'
import { heldTensors } from '@graft/sdk/format/tensor-source.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fixtureBase, fixtures, importFixture } from '../convert/fixtures.ts'

const [IN, OUT] = [12, 10]
const f32 = (values: readonly number[]) => {
  const data = Float32Array.from(values)
  return new Uint8Array(data.buffer)
}

/** Proofs of one low rank update with these factors. */
async function proofsOf(a: number[], b: number[], rank: number, scale: string) {
  const op: LowRank = {
    ...{ op: 'low_rank', site: 'model.layers.0.mlp.up_proj', in: IN, out: OUT, rank, scale },
    slots: { A: 'A', B: 'B' },
  }
  const tensors = heldTensors(
    new Map([
      ['A', { dtype: 'F32', shape: [rank, IN], data: f32(a) }],
      ['B', { dtype: 'F32', shape: [OUT, rank], data: f32(b) }],
    ]),
  )
  return adapterProofs({ operations: [op], origin: null }, tensors)
}

const numbers = (length: number) =>
  fc.array(fc.double({ min: -2, max: 2, noNaN: true }), { minLength: length, maxLength: length })
const pairOf = (rank: number) => fc.tuple(numbers(rank * IN), numbers(OUT * rank))

describe('adapterProofs', () => {
  it('gives one norm and one fingerprint to every gauge and every folded scale of an update', async () => {
    await fc.assert(
      fc.asyncProperty(
        pairOf(2),
        fc.double({ min: 0.5, max: 4, noNaN: true }),
        async ([a, b], k) => {
          const plain = await proofsOf(a, b, 2, '0.5')
          // (B M)(M^-1 A) with M = [[k, 1], [0, 1]].
          const gaugedB = b.map((_, i) => (i % 2 === 0 ? k * b[i]! : b[i - 1]! + b[i]!))
          const gaugedA = a.map((x, i) => (i < IN ? (x - a[IN + i]!) / k : x))
          const gauged = await proofsOf(gaugedA, gaugedB, 2, '0.5')
          const folded = await proofsOf(
            a,
            b.map((x) => x / 2),
            2,
            '1',
          )
          const size = Math.max(...plain.fingerprint.slice(3).split(',').map(Number).map(Math.abs))
          fc.pre(size > 1e-2)
          expect(sameFingerprint(plain.fingerprint, gauged.fingerprint, 1e-3)).toBe(true)
          expect(sameFingerprint(plain.fingerprint, folded.fingerprint)).toBe(true)
          expect(gauged.sites[0]!.norm).toBeCloseTo(plain.sites[0]!.norm!, 3)
        },
      ),
    )
  })

  it('tells a transposed, a rescaled and a swapped adapter from the true one', async () => {
    const random = (length: number, seed: number) =>
      Array.from({ length }, (_, i) => Math.sin(i * 12.9898 + seed) * 2)
    const [a, b] = [random(2 * IN, 1), random(OUT * 2, 2)]
    const { fingerprint } = await proofsOf(a, b, 2, '0.5')
    for (const other of [
      await proofsOf(a, b, 2, '0.25'),
      await proofsOf([...a].reverse(), b, 2, '0.5'),
      await proofsOf(random(2 * IN, 3), b, 2, '0.5'),
    ])
      expect(sameFingerprint(fingerprint, other.fingerprint)).toBe(false)
    expect(sameFingerprint(fingerprint, 'g0:1,2,3,4')).toBe(false)
  })

  it('says which operations change nothing', async () => {
    const { sites } = await proofsOf(Array(IN).fill(1), Array(OUT).fill(0), 1, '1')
    expect(sites).toMatchObject([{ zero: true, norm: 0, rank: 1, scale: '1' }])
  })

  it.each(fixtures('peft'))('matches every source tensor of %s to a module', async (name) => {
    const { manifest, safetensors } = await importFixture(name)
    const { tensors } = await openAdapter(manifest, heldBytes(safetensors))
    const { matches, sites } = await adapterProofs(manifest, tensors)
    expect(new Set(matches.map(({ key }) => key))).toEqual(
      new Set(manifest.origin!.keyMap.map(({ key }) => key)),
    )
    expect(sites).toHaveLength(manifest.operations.length)
  })
})

describe('compareBase', () => {
  it('is compatible with the bytes it was made for, and no more than shape-only with others', async () => {
    const { manifest } = await importFixture('peft-lora')
    const base = await fixtureBase()
    expect(compareBase(manifest, base)).toEqual({ status: 'compatible', reasons: [] })
    const files = base.identity.files.map((file) => ({
      ...file,
      sha256: manifest.tensors[0]!.sha256,
    }))
    const other = { ...base, identity: { ...base.identity, files } }
    expect(compareBase(manifest, other)).toMatchObject({
      status: 'shape-only',
      reasons: [{ site: null, what: 'the weight files hold other bytes' }],
    })
  })

  it('names the failing module of a base that lacks it or has it in another size', async () => {
    const { manifest } = await importFixture('peft-lora')
    const base = await fixtureBase()
    const site = manifest.operations[0]!.site
    const without = base.tensors.filter(({ name }) => name !== `${site}.weight`)
    expect(compareBase(manifest, { ...base, tensors: without })).toMatchObject({
      status: 'incompatible',
      reasons: [{ site, code: 'ERR_TENSOR_UNMATCHED' }],
    })
    const wider = base.tensors.map((row) =>
      row.name === `${site}.weight` ? { ...row, shape: [row.shape[0]!, row.shape[1]! * 2] } : row,
    )
    expect(compareBase(manifest, { ...base, tensors: wider })).toMatchObject({
      status: 'incompatible',
      reasons: [{ site, code: 'ERR_TENSOR_SHAPE' }],
    })
  })
})
