import { readCheckpoint } from '@graft/runner/checkpoint/read-checkpoint.ts'
import type { Engine, LoadedAdapter } from '@graft/runner/engine/engine.ts'
import { openOnnxEngine } from '@graft/runner/engine/onnx/onnx-engine.ts'
import { openReferenceEngine } from '@graft/runner/engine/reference/reference-engine.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import type { Bottleneck, LowRank } from '@graft/sdk/format/operations.ts'
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest'
import { bottleneck, builder, dora, ia3, lowRank, ownTensors, prefix } from './random-adapters.ts'
import { TINY, writeTinyCheckpoint } from './tiny-checkpoint.ts'

/** What the engine cannot compute exactly it refuses by name, at load or when a sum is asked for. */
describe('an adapter that the engine cannot serve', () => {
  let engine: Engine
  let reference: Engine
  let remove: () => Promise<void>

  beforeAll(async () => {
    const tiny = await writeTinyCheckpoint()
    remove = tiny.remove
    const checkpoint = await readCheckpoint(tiny.dir)
    engine = await openOnnxEngine({ checkpoint, baseDigest: fromHex('0'.repeat(64)), threads: 1 })
    reference = await openReferenceEngine({ checkpoint, baseDigest: fromHex('0'.repeat(64)) })
  })
  afterAll(async () => {
    await reference[Symbol.asyncDispose]()
    await engine[Symbol.asyncDispose]()
    await remove()
  })

  const refuses = (adapter: LoadedAdapter, code: string, part: string) =>
    expect(engine.load(adapter)).rejects.toMatchObject({
      code,
      message: expect.stringContaining(part),
    })

  it('refuses a prefix that leaves out a layer, whose slot still holds its last owner', async () => {
    const adapter = prefix(501)
    adapter.operations.pop()
    await refuses(adapter, 'ERR_OPERATION_UNSUPPORTED', '1 in 1 layers')
  })

  it('refuses a second factor on one side of a linear', async () => {
    const adapter = ia3(502)
    adapter.operations.push(adapter.operations[0]!)
    await refuses(adapter, 'ERR_OPERATION_UNSUPPORTED', 'two factors on one side')
  })

  it('refuses a second low-rank operation at a linear', async () => {
    const adapter = lowRank(503)
    adapter.operations.push(adapter.operations[0]!)
    await refuses(adapter, 'ERR_OPERATION_UNSUPPORTED', 'two low-rank operations')
  })

  it('refuses another bias at the embedding instead of taking it for the weight', async () => {
    const { adapter, add, tensor } = builder(504)
    const shape = [TINY.vocab, TINY.hidden]
    const value = tensor('model.embed_tokens::full.b', shape, 1)
    const site = 'model.embed_tokens'
    add({ op: 'replace', site, param: 'bias', shape, slots: { value } })
    await refuses(adapter, 'ERR_OPERATION_UNSUPPORTED', 'replace of bias')
  })

  it('refuses a bias where the base has none, and a row beyond its tokens', async () => {
    const site = 'model.layers.0.self_attn.q_proj'
    const value = (shape: number[], seed: number) => {
      const { adapter, add, tensor } = builder(seed)
      return { adapter, add, slots: { value: tensor('value', shape, 1) } }
    }
    const bias = value([TINY.hidden], 511)
    bias.add({ op: 'replace', site, param: 'bias', shape: [TINY.hidden], slots: bias.slots })
    await refuses(bias.adapter, 'ERR_OPERATION_UNSUPPORTED', 'the base has no bias there')
    const shape = [1, TINY.hidden]
    const row = value(shape, 512)
    const rows = [TINY.vocab]
    row.add({ op: 'replace', site: 'lm_head', param: 'weight', shape, rows, slots: row.slots })
    await refuses(row.adapter, 'ERR_OPERATION_UNSUPPORTED', `row ${TINY.vocab} at lm_head`)
  })

  it('refuses a magnitude over a weight of its own, whose norms it would not know', async () => {
    const adapter = dora(513)
    const own = ownTensors(514, ['linears'])
    adapter.operations.push(...own.operations)
    for (const [name, value] of own.tensors) adapter.tensors.set(name, value)
    await refuses(adapter, 'ERR_OPERATION_UNSUPPORTED', 'a magnitude and a weight of its own')
  })

  it('refuses a second weight at a linear, and a second head', async () => {
    for (const [parts, part] of [
      ['linears', 'is replaced twice'],
      ['head rows', 'lm_head is replaced twice'],
    ] as const) {
      const adapter = ownTensors(515, [parts])
      adapter.operations.push(adapter.operations[0]!)
      await refuses(adapter, 'ERR_OPERATION_UNSUPPORTED', part)
    }
  })

  it.each<[string, (operations: Bottleneck[]) => void, string]>([
    [
      'post_add, on which AdapterHub fails too',
      ([first]) => {
        first!.residual = 'post_add'
      },
      'post_add',
    ],
    [
      'a second one at a place',
      (operations) => {
        operations.push(operations[0]!)
      },
      'a second one after the attention',
    ],
    [
      'a second activation',
      ([first]) => {
        first!.activation = 'tanh'
      },
      'a second activation',
    ],
    [
      'another order in another layer',
      ([first]) => {
        first!.originalLnAfter = false
      },
      'another order of norms and residuals',
    ],
    [
      'a block that is not there',
      ([first]) => {
        first!.site = 'model.layers.9'
      },
      'no such block',
    ],
  ])('refuses bottlenecks with %s', async (_, change, part) => {
    const adapter = bottleneck(516, 'relu')
    change(adapter.operations as Bottleneck[])
    await refuses(adapter, 'ERR_OPERATION_UNSUPPORTED', part)
  })

  it('refuses low-rank updates of experts, convolutions, the embedding and the head', async () => {
    const { vocab, hidden } = TINY
    const update = (
      seed: number,
      site: string,
      sizes: Partial<LowRank>,
      a: number[],
      b: number[],
    ) => {
      const { adapter, add, tensor } = builder(seed)
      const slots = { A: tensor('A', a, 1), B: tensor('B', b, 1) }
      add({ op: 'low_rank', site, in: hidden, out: hidden, rank: 2, scale: '1', ...sizes, slots })
      return adapter
    }
    const linear = 'model.layers.0.self_attn.q_proj'
    for (const [adapter, part] of [
      [
        update(521, linear, { experts: 3 }, [3, 2, hidden], [3, hidden, 2]),
        'no stacks of experts (3 here)',
      ],
      [
        update(522, linear, { kernel: [3, 3] }, [2, hidden, 3, 3], [hidden, 2, 1, 1]),
        'no convolutions (kernel [3,3])',
      ],
      [
        update(523, 'model.embed_tokens', { in: vocab }, [2, vocab], [hidden, 2]),
        'low_rank at model.embed_tokens: this engine adapts the linears of the blocks only',
      ],
      [
        update(524, 'lm_head', { out: vocab }, [2, hidden], [vocab, 2]),
        'low_rank at lm_head: this engine adapts the linears of the blocks only',
      ],
    ] as const) {
      await refuses(adapter, 'ERR_OPERATION_UNSUPPORTED', part)
      await expect(reference.load(adapter)).rejects.toMatchObject({
        code: 'ERR_OPERATION_UNSUPPORTED',
        message: expect.stringContaining(part),
      })
    }
  })

  it('refuses a linear that the base does not have', async () => {
    const adapter = lowRank(505)
    const [first] = adapter.operations
    adapter.operations = [{ ...first!, site: 'model.layers.9.self_attn.q_proj' }]
    await refuses(adapter, 'ERR_OPERATION_UNSUPPORTED', 'model.layers.9')
  })

  it('refuses weights that overflow when the scale is folded into them', async () => {
    const adapter = lowRank(506)
    adapter.operations = adapter.operations.map((operation) => ({ ...operation, scale: '1e39' }))
    await refuses(adapter, 'ERR_WEIGHTS_NON_FINITE', 'overflow f32')
  })

  it('refuses a sum whose factors stand on both sides of a linear', async () => {
    const site = 'model.layers.0.mlp.down_proj'
    const factor = (seed: number, side: 'input' | 'output', size: number) => {
      const { adapter, add, tensor } = builder(seed)
      add({ op: 'scale', site, side, size, slots: { l: tensor('l', [size], 0.1, 1) } })
      return adapter
    }
    const sides = [factor(507, 'input', TINY.intermediate), factor(508, 'output', TINY.hidden)]
    for (const adapter of sides) await engine.load(adapter)
    const sum = sides.map(({ digest }) => ({ digest, weight: 0.5 }))
    await expect(engine.open(9001, sum)).rejects.toMatchObject({ code: 'ERR_NOT_COMPOSABLE' })
  })

  it('refuses a bottleneck in a sum, and one alone with a weight', async () => {
    const stubborn = bottleneck(509, 'relu')
    const other = dora(510)
    await engine.load(stubborn)
    await engine.load(other)
    const half = { digest: stubborn.digest, weight: 0.5 }
    for (const terms of [[half], [half, { digest: other.digest, weight: 0.5 }]])
      await expect(engine.open(9002, terms)).rejects.toMatchObject({
        code: 'ERR_NOT_COMPOSABLE',
        message: expect.stringContaining(stubborn.digest),
      })
  })

  it('holds no slot and no rows after a refused open', async () => {
    for (let id = 9100; id < 9100 + engine.info.slots; id++) await engine.open(id, [])
    for (let id = 9100; id < 9100 + engine.info.slots; id++) await engine.close(id)
  })
})

test('a base in w8a8 is refused on WebGPU before any device is looked for', async () => {
  const { dir, remove } = await writeTinyCheckpoint()
  const checkpoint = await readCheckpoint(dir)
  const options = {
    baseDigest: fromHex('0'.repeat(64)),
    precision: 'w8a8',
    execution: 'webgpu',
  } as const
  await expect(openOnnxEngine({ checkpoint, ...options })).rejects.toMatchObject({
    code: 'ERR_REQUEST_INVALID',
    message: expect.stringContaining('got "w8a8"'),
  })
  await remove()
})
