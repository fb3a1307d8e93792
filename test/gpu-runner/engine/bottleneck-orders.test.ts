import { join } from 'node:path'
import type { LoadedAdapter } from '@graft/runner/engine/engine.ts'
import { bottleneck } from '@graft/runner/engine/reference/bottleneck.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import type { Bottleneck } from '@graft/sdk/format/operations.ts'
import { beforeAll, describe, expect, test } from 'vitest'
import { worstShare } from './measure.ts'
import { readLogits } from './peer-goldens.ts'

/** What AdapterHub's own layer made of one h and x under each combination of its flags: fixtures/make-operations.py. */
const ORDERS = join(import.meta.dirname, 'fixtures/operations/orders.safetensors')
const HIDDEN = 8
const NAMES = [
  'parallel',
  'sum',
  'stream',
  'residual',
  'inside',
  'before',
  'after',
  'gate',
] as const

let peer: Map<string, Float32Array>
beforeAll(async () => {
  peer = await readLogits(ORDERS)
})

const rows = (values: Float32Array) =>
  Array.from({ length: values.length / HIDDEN }, (_, t) =>
    Float64Array.from(values.subarray(t * HIDDEN, (t + 1) * HIDDEN)),
  )

/** The operation that flags mean, with the slots that they ask for. */
function operationOf(digits: string): Bottleneck {
  const on = Object.fromEntries(NAMES.map((name, i) => [name, digits[i] === '1']))
  const slot = (...names: string[]) => Object.fromEntries(names.map((name) => [name, name]))
  return {
    op: 'bottleneck',
    site: 'model.layers.0',
    placement: on['parallel'] ? 'parallel_ffn' : 'ffn',
    hidden: HIDDEN,
    reduced: 4,
    activation: 'tanh',
    originalLnBefore: on['sum']!,
    originalLnAfter: on['stream']!,
    residual: on['residual'] ? 'before_ln' : 'after_ln',
    adapterResidualBeforeLn: on['inside']!,
    scaling: '0.75',
    slots: {
      ...slot('downB', 'upB'),
      downW: 'downW',
      upW: 'upW',
      ...(on['before'] && slot('lnBeforeW', 'lnBeforeB')),
      ...(on['after'] && slot('lnAfterW', 'lnAfterB')),
      ...(on['gate'] && slot('gateW', 'gateB')),
    },
  }
}

const adapterOf = (operation: Bottleneck): LoadedAdapter => ({
  digest: fromHex('a'.repeat(64)),
  operations: [operation],
  tensors: new Map([...peer].map(([name, data]) => [name, { shape: [data.length], data }])),
})

describe('the reference kernel of bottlenecks', () => {
  test('gives what AdapterHub gives on Llama under all 256 combinations of its flags', () => {
    const combinations = [...peer.keys()].filter((name) => /^[01]{8}$/.test(name))
    expect(combinations).toHaveLength(256)
    let worst = 0
    for (const digits of combinations) {
      const operation = operationOf(digits)
      const [x, h] = [rows(peer.get('x')!), rows(peer.get('h')!)]
      const own = bottleneck(adapterOf(operation), operation, x, h)
      const share = worstShare(Float32Array.from(own.flatMap((row) => [...row])), peer.get(digits)!)
      expect(share, digits).toBeLessThan(2e-6)
      worst = Math.max(worst, share)
    }
    console.log(`256 orders, worst share of max |y|: ${worst.toExponential(2)}`)
  })

  test('refuses post_add, on which AdapterHub itself fails where a block has no LayerNorm', () => {
    const operation: Bottleneck = { ...operationOf('01110000'), residual: 'post_add' }
    expect(() => bottleneck(adapterOf(operation), operation, [], [])).toThrow(
      expect.objectContaining({
        code: 'ERR_OPERATION_UNSUPPORTED',
        message: expect.stringContaining('post_add'),
      }),
    )
  })
})
