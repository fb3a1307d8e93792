import type { Bottleneck, LowRank, Magnitude, Scale } from '@graft/sdk/format/operations.ts'
import { describe, expect, it } from 'vitest'
import { tensorsOf, type Values } from '../fixtures.ts'
import { applyBottleneck, applyLinear, gateOver, multiply, rows } from '../reference-maths.ts'
import { baseOf, expectedOf, importFixture, READ } from './fixtures.ts'

/*
 * expected.safetensors holds what the library's own modules answer: x, y, W, b of linears, h, x, y and the block's norm of
 * bottlenecks, k and v of prefixes.
 */

type Peer = Map<string, Values>

/** Factors of rank and output, which the plain loops of reference-maths leave out. */
function lowRank(op: LowRank, slot: (name: string) => Float32Array, x: Float32Array): Float32Array {
  const { A, B, E, D } = op.slots
  const down = multiply(slot(A), x).map((v, r) => v * (E ? slot(E)[r]! : 1))
  return multiply(slot(B), down).map((v, o) => Number(op.scale) * v * (D ? slot(D)[o]! : 1))
}

function compareLinear(
  op: LowRank | Magnitude | Scale,
  slot: (name: string) => Float32Array,
  peer: Peer,
): number {
  const [x, y] = [rows(peer.get(`x.${op.site}`)!), rows(peer.get(`y.${op.site}`)!)]
  const [w, b] = [peer.get(`W.${op.site}`)!.data, peer.get(`b.${op.site}`)?.data ?? null]
  for (const [i, row] of x.entries()) {
    const got =
      op.op === 'low_rank'
        ? multiply(w, row).map((v, o) => v + (b?.[o] ?? 0) + lowRank(op, slot, row)[o]!)
        : applyLinear(op, slot, w, b, row)
    for (const [o, v] of got.entries())
      expect(Math.abs(v - y[i]![o]!), `${op.site} row ${i} output ${o}`).toBeLessThan(2e-5)
  }
  return x.length
}

const NORM_EPS = 1e-12

/** The block's own LayerNorm; BERT's eps. */
function layerNorm(x: Float32Array, w: Float32Array, b: Float32Array): Float32Array {
  const mean = x.reduce((sum, v) => sum + v, 0) / x.length
  const variance = x.reduce((sum, v) => sum + (v - mean) ** 2, 0) / x.length
  return x.map((v, i) => ((v - mean) / Math.sqrt(variance + NORM_EPS)) * w[i]! + b[i]!)
}

const add = (a: Float32Array, b: Float32Array): Float32Array => a.map((v, i) => v + b[i]!)

/** A block with a norm of its own, as SPEC.md has it, out of one without. */
function inNormedBlock(
  op: Bottleneck,
  slot: (name: string) => Float32Array,
  h: Float32Array,
  x: Float32Array,
  norm: (v: Float32Array) => Float32Array,
): Float32Array {
  const z = op.originalLnBefore ? norm(add(h, x)) : h
  const r = op.residual === 'before_ln' ? h : op.residual === 'post_add' ? add(h, x) : z
  const plain: Bottleneck = {
    ...op,
    originalLnBefore: false,
    originalLnAfter: false,
    residual: 'before_ln',
  }
  const parallel = op.placement.startsWith('parallel')
  // With h = 0 as the residual what is left is u alone.
  const u = add(
    applyBottleneck(plain, slot, parallel ? h : z, x, 1),
    (parallel ? h : z).map((v) => -v),
  )
  const t = add(u, parallel ? h : r)
  return op.originalLnAfter ? norm(add(t, x)) : t
}

function compareBottleneck(
  op: Bottleneck,
  slot: (name: string) => Float32Array,
  peer: Peer,
): number {
  const attention = op.placement.endsWith('attention')
  const path = [...peer.keys()]
    .filter((key) => key.startsWith(`h.${op.site}.`))
    .find((key) => key.includes('attention') === attention)!
    .slice(2)
  const [h, x, y] = ['h', 'x', 'y'].map((part) => rows(peer.get(`${part}.${path}`)!))
  const [w, b] = [peer.get(`lnW.${path}`), peer.get(`lnB.${path}`)]
  const gate = gateOver(op, slot, h!, x!)
  for (const i of h!.keys()) {
    const got =
      w && b
        ? inNormedBlock(op, slot, h![i]!, x![i]!, (v) => layerNorm(v, w.data, b.data))
        : applyBottleneck(op, slot, h![i]!, x![i]!, gate)
    for (const [o, v] of got.entries())
      expect(Math.abs(v - y![i]![o]!), `${path} row ${i} output ${o}`).toBeLessThan(2e-5)
  }
  return h!.length
}

const WITH_PROBES = READ.filter((name) => !/f16|bf16|flex/.test(name))

describe('what AdapterHub computes', () => {
  it.each(WITH_PROBES)('%s answers at every place what the library answers', async (name) => {
    const { manifest, safetensors } = await importFixture(name)
    const tensors = tensorsOf(safetensors)
    const slot = (tensor: string) => tensors.get(tensor)!.data
    const peer = expectedOf(name)
    const left = new Set([...peer.keys()].filter((key) => /^(?:y|k|v)\./.test(key)))
    let layer = 0
    for (const op of manifest.operations)
      if (op.op === 'low_rank' || op.op === 'magnitude' || op.op === 'scale') {
        expect(compareLinear(op, slot, peer)).toBe(3)
        left.delete(`y.${op.site}`)
      } else if (op.op === 'bottleneck') {
        expect(compareBottleneck(op, slot, peer)).toBe(3)
        const part = op.placement.endsWith('attention') ? /attention/ : /^(?!.*attention)/
        for (const key of left)
          if (key.startsWith(`y.${op.site}.`) && part.test(key)) left.delete(key)
      } else if (op.op === 'prefix') {
        expect(slot(op.slots.k)).toEqual(peer.get(`k.${layer}`)!.data)
        expect(slot(op.slots.v)).toEqual(peer.get(`v.${layer}`)!.data)
        left.delete(`k.${layer}`)
        left.delete(`v.${layer++}`)
        expect(op.firstPosition).toBe(0)
      }
    expect([...left], 'places that no operation answers for').toEqual([])
  })

  it('takes every LoRA name where the library hooks it, the two of Llama swapped', async () => {
    const sites = async (name: string) => {
      const { manifest } = await importFixture(name)
      return manifest.operations
        .map(({ site }) => site)
        .filter((site) => /\.0\./.test(site) && /mlp|intermediate|layer\.0\.output/.test(site))
    }
    expect(await sites('llama-lora')).toEqual([
      'model.layers.0.mlp.down_proj',
      'model.layers.0.mlp.up_proj',
    ])
    expect(await sites('qwen2-lora')).toEqual([
      'model.layers.0.mlp.up_proj',
      'model.layers.0.mlp.down_proj',
    ])
    expect(await sites('bert-lora')).toEqual([
      'bert.encoder.layer.0.intermediate.dense',
      'bert.encoder.layer.0.output.dense',
    ])
    const { manifest } = await importFixture('llama-ia3')
    expect(manifest.operations.find(({ site }) => site.includes('mlp'))).toMatchObject({
      op: 'scale',
      site: 'model.layers.0.mlp.down_proj',
      side: 'output',
    })
  })

  it('puts q and v of a fused layer into one update of their ranks together', async () => {
    const { manifest, safetensors } = await importFixture('gpt2-lora')
    const op = manifest.operations[0] as LowRank
    expect(op).toMatchObject({
      site: 'transformer.h.0.attn.c_attn',
      rank: 4,
      in: 16,
      out: 48,
      scale: '2',
    })
    const b = rows(tensorsOf(safetensors).get(op.slots.B)!)
    expect(b.slice(16, 32).every((row) => row.every((v) => v === 0))).toBe(true)
    expect(b[0]!.slice(2).every((v) => v === 0)).toBe(true)
    expect(b[47]!.slice(0, 2).every((v) => v === 0)).toBe(true)
  })

  it.each(['llama-lora-head', 'llama-flex-one'])(
    '%s replaces the head that was saved with the adapter',
    async (name) => {
      const { manifest, report } = await importFixture(name)
      expect(manifest.operations.at(-1)).toMatchObject({
        op: 'replace',
        site: 'lm_head',
        param: 'weight',
        shape: [32, 16],
      })
      expect(report.flags).toEqual(['head'])
    },
  )

  it('repairs the scale of versions before 1.1.0 as the library does, and of no other', async () => {
    const scaleOf = async (version: string | undefined) => {
      const { manifest } = await importFixture('llama-lora', (files) => {
        const config = JSON.parse(new TextDecoder().decode(files.get('adapter_config.json')))
        config.version = version
        files.set('adapter_config.json', new TextEncoder().encode(JSON.stringify(config)))
      })
      return (manifest.operations[0] as LowRank).scale
    }
    expect(await scaleOf('adapters.1.0.1')).toBe('1')
    expect(await scaleOf('adapters.1.1.0.dev0')).toBe('1')
    expect(await scaleOf('adapters.1.1.0')).toBe('2')
    // adapter-transformers, the predecessor, and configs that say nothing: loaded as they are.
    expect(await scaleOf('3.2.1')).toBe('2')
    expect(await scaleOf(undefined)).toBe('2')
  })

  it('finds the blocks of a base that was saved by an inner or an outer class', async () => {
    const renamed = async (name: string, from: RegExp, to: string) => {
      const base = await baseOf(name)
      const tensors = base.tensors.map((one) => ({ ...one, name: one.name.replace(from, to) }))
      const { manifest } = await importFixture(name, () => {}, { ...base, tensors })
      return manifest.operations[0]!.site
    }
    expect(await renamed('llama-ia3', /^model\./, '')).toBe('layers.0.self_attn.k_proj')
    expect(await renamed('bert-lora', /^bert\./, '')).toBe('encoder.layer.0.attention.self.query')
    expect(await renamed('gpt2-seq-bn', /^transformer\./, '')).toBe('h.0')
    await expect(renamed('llama-ia3', /^model\./, 'decoder.')).rejects.toMatchObject({
      code: 'ERR_ARCHITECTURE_UNSUPPORTED',
    })
  })
})
