import type { LowRank, Magnitude } from '@graft/sdk/format/operations.ts'
import { describe, expect, it } from 'vitest'
import { tensorsOf } from '../fixtures.ts'
import { applyLinear, lowRankDelta, multiply, rows } from '../reference-maths.ts'
import { baseNamed, expectedOf, importFixture, SAVES } from './fixtures.ts'

const CLOSE = 2e-4

const close = (got: Float32Array, want: Float32Array, where: string): void => {
  const most = want.reduce((top, v) => Math.max(top, Math.abs(v)), 1)
  expect(got.length).toBe(want.length)
  for (const [i, v] of got.entries())
    expect(Math.abs(v - want[i]!), `${where} ${i}`).toBeLessThan(CLOSE * most)
}

/** The base's path as mlx-lm calls it. */
const mlxName = (site: string): string => site.replace(/^h\./, 'model.h.')

describe('what mlx-lm computes', () => {
  const linears = SAVES.filter((name) => name !== 'llama-trained-full')
  it.each(linears)('%s answers in every linear layer what mlx answers', async (name) => {
    const { manifest, safetensors } = await importFixture(name)
    const tensors = tensorsOf(safetensors)
    const slot = (tensor: string) => tensors.get(tensor)!.data
    const peer = expectedOf(name)
    const left = new Set([...peer.keys()].filter((key) => key.startsWith('y.')))
    for (const op of manifest.operations) {
      const path = mlxName(op.site)
      const y = peer.get(`y.${path}`)
      if ((op.op !== 'low_rank' && op.op !== 'magnitude') || y === undefined) continue
      const [w, b] = [peer.get(`W.${path}`)!.data, peer.get(`b.${path}`)?.data ?? null]
      for (const [i, x] of rows(peer.get(`x.${path}`)!).entries())
        close(applyLinear(op, slot, w, b, x), rows(y)[i]!, `${path} row ${i}`)
      left.delete(`y.${path}`)
    }
    expect([...left]).toEqual([])
  })

  it.each([
    ['llama-paths', false],
    ['tied-embed', true],
  ])('%s: rows of an embedding, and a tied head with it: %s', async (name, tied) => {
    const { manifest, safetensors } = await importFixture(name)
    const tensors = tensorsOf(safetensors)
    const peer = expectedOf(name)
    const site = 'model.embed_tokens'
    const at = (path: string) =>
      manifest.operations.find((op): op is LowRank => op.op === 'low_rank' && op.site === path)
    const embedding = at(site)!
    const [w, want] = [rows(peer.get(`W.${site}`)!), rows(peer.get(`rows.${site}`)!)]
    for (const [i, id] of [0, 7, 31].entries()) {
      const oneHot = new Float32Array(32)
      oneHot[id] = 1
      const delta = lowRankDelta(embedding, (t) => tensors.get(t)!.data, oneHot)
      close(
        w[id]!.map((v, o) => v + delta[o]!),
        want[i]!,
        `row ${id}`,
      )
    }
    const head = at('lm_head')
    if (!tied) return
    const hidden = rows(peer.get(`hx.${site}`)!)
    for (const [i, x] of hidden.entries())
      close(
        applyLinear(head!, (t) => tensors.get(t)!.data, peer.get(`W.${site}`)!.data, null, x),
        rows(peer.get(`hy.${site}`)!)[i]!,
        `head row ${i}`,
      )
  })

  it('adapts experts that are stacked, and each by itself where the base holds them so', async () => {
    const peer = expectedOf('mixtral-switch')
    const site = 'model.layers.1.block_sparse_moe.switch_mlp.down_proj'
    const [x, want] = [rows(peer.get(`ex.${site}`)!), rows(peer.get(`ed.${site}`)!)]
    const stacked = await importFixture('mixtral-switch')
    const op = stacked.manifest.operations.find((one) => one.site === site) as LowRank
    expect(op).toMatchObject({ experts: 3, in: 24, out: 16, rank: 3, scale: '2.5' })
    const tensors = tensorsOf(stacked.safetensors)
    const [A, B] = [tensors.get(op.slots.A)!, tensors.get(op.slots.B)!]
    for (const [e, row] of x.entries()) {
      const part = (t: typeof A) =>
        t.data.subarray((e * t.data.length) / 3, ((e + 1) * t.data.length) / 3)
      close(
        multiply(part(B), multiply(part(A), row)).map((v) => v * 2.5),
        want[e]!,
        `expert ${e}`,
      )
    }
    const alone = await importFixture('mixtral-switch', () => {}, await baseNamed('mixtral-hf'))
    const own = tensorsOf(alone.safetensors)
    for (const [e, row] of x.entries()) {
      const one = alone.manifest.operations.find(
        (o) => o.site === `model.layers.1.block_sparse_moe.experts.${e}.w2`,
      ) as LowRank
      close(
        lowRankDelta(one, (t) => own.get(t)!.data, row),
        want[e]!,
        `expert ${e} alone`,
      )
    }
  })

  it('takes the scale as it is, the layers from the end, and whole layers as replacements', async () => {
    const trained = await importFixture('llama-trained')
    expect(trained.report).toMatchObject({ family: 'lora', scales: ['20'], flags: [] })
    expect(
      trained.manifest.operations.every(({ site }) => site.startsWith('model.layers.1.')),
    ).toBe(true)
    const dora = await importFixture('llama-trained-dora')
    expect(dora.report).toMatchObject({
      flags: ['dora'],
      scales: ['4'],
      operations: { magnitude: 4 },
    })
    expect((dora.manifest.operations[0] as Magnitude).slots.m).toMatch(/::lora\.mag$/)
    const full = await importFixture('llama-trained-full')
    expect(full.report).toMatchObject({ family: 'full' })
    expect(full.manifest.operations.every(({ op }) => op === 'replace')).toBe(true)
    expect(full.manifest.operations.map(({ site }) => site)).toContain(
      'model.layers.1.input_layernorm',
    )
  })

  it('transposes square matrices too: the format tells, never the shape', async () => {
    const { manifest, safetensors } = await importFixture('gpt2-lora')
    const op = manifest.operations.find(({ site }) => site === 'h.0.attn.c_proj') as LowRank
    expect([op.in, op.out]).toEqual([16, 16])
    expect(manifest.origin!.keyMap.every(({ transform }) => transform === 'transpose')).toBe(true)
    expect(tensorsOf(safetensors).get(op.slots.A)!.shape).toEqual([3, 16])
  })
})
