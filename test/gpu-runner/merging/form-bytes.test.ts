import { formBytes } from '@graft/runner/engine/merged/form-bytes.ts'
import { expect, test } from 'vitest'

const tensor = (name: string, ...shape: number[]) => ({ name, dtype: 'F32', shape })
/** 64 values in the embedding and the head each, 256 in a linear, 8 in a norm; 8 keys and 8 values a position. */
const TENSORS = [
  tensor('model.embed_tokens.weight', 8, 8),
  tensor('lm_head.weight', 8, 8),
  tensor('model.norm.weight', 8),
  tensor('model.layers.0.self_attn.k_proj.weight', 8, 32),
]
const INFO = { slots: 2, maxPositions: 10, kvPrecision: 'fp32' as const }
const NO_STORE = { kvBudgetBytes: 10_000, prefixBudgetBytes: 0 }

test('weights count at the serving precision, 2.2 times, and keys and values of full slots', () => {
  const kv = 2 * 10 * (8 + 8) * 4
  expect(formBytes(TENSORS, 'fp32', INFO, NO_STORE)).toBe(
    Math.ceil(2.2 * 4 * (64 + 64 + 8 + 256)) + kv,
  )
  // 4 bits and a scale of 4 bytes for 32; embedding and norm stay floats.
  expect(formBytes(TENSORS, 'int4', INFO, NO_STORE)).toBe(
    Math.ceil(2.2 * (64 * 4 + 8 * 4 + (64 + 256) * 0.625) + kv),
  )
  expect(formBytes(TENSORS, 'fp32', { ...INFO, kvPrecision: 'fp16' }, NO_STORE)).toBe(
    Math.ceil(2.2 * 4 * (64 + 64 + 8 + 256)) + kv / 2,
  )
})

test('a tied head counts as a matrix of its own; budgets bound what is stored', () => {
  const untied = formBytes(TENSORS, 'int8', INFO, NO_STORE)
  const tied = TENSORS.filter(({ name }) => name !== 'lm_head.weight')
  expect(formBytes(tied, 'int8', INFO, NO_STORE)).toBe(untied)
  const budgets = { kvBudgetBytes: 100, prefixBudgetBytes: 7 }
  expect(formBytes(TENSORS, 'int8', INFO, budgets)).toBe(untied - 2 * 10 * 16 * 4 + 107)
})
