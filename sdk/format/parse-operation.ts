import { isDecimal } from './decimal.ts'
import { checkDenseSizes } from './dense/check-sizes.ts'
import type { DenseForm } from './dense/forms.ts'
import { createGuards, type Fields } from './guards.ts'
import { type Activation, OPERATIONS, type Operation, type OperationKind } from './operations.ts'

const { fail, exactly, object, string, list, boolean, integer, oneOf } =
  createGuards('ERR_MANIFEST_INVALID')

export const ACTIVATIONS = [
  'relu',
  'gelu',
  'gelu_new',
  'silu',
  'tanh',
  'sigmoid',
  'leaky_relu',
  'linear',
] as const satisfies readonly Activation[]

type Check = (value: unknown, where: string) => unknown

const count: Check = (value, where) => integer(value, where, 1)
const decimal: Check = (value, where) =>
  isDecimal(value) ? value : fail(where, 'a decimal string in its shortest form', value)
const one =
  (...values: string[]): Check =>
  (value, where) =>
    oneOf(value, where, values)
/** Dotted module path; "::" divides a path from a slot in tensor names, so no path holds it. */
const path: Check = (value, where) =>
  /^[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*$/.test(string(value, where))
    ? value
    : fail(where, 'a dotted module path', value)
const shape: Check = (value, where) =>
  list(value, where).map((dim, i) => integer(dim, `${where}[${i}]`, 1))
const rows: Check = (value, where) => {
  const numbers = list(value, where).map((row, i) => integer(row, `${where}[${i}]`, 0))
  if (numbers.length === 0 || numbers.some((row, i) => i > 0 && row <= numbers[i - 1]!))
    fail(where, 'ascending row numbers, at least one', value)
  return numbers
}
const scaling: Check = (value, where) =>
  value === 'learned' || value === 'channel' ? value : decimal(value, where)

const linear = { site: path, in: count, out: count }
const pair: Check = (value, where) => {
  const dims = shape(value, where) as number[]
  return dims.length === 2 ? dims : fail(where, 'two sizes', value)
}
const decimals: Check = (value, where) => {
  const all = list(value, where).map((entry, i) => decimal(entry, `${where}[${i}]`))
  return all.length > 0 ? all : fail(where, 'at least one decimal', value)
}

/** Fields and slots of each kind; a name that ends in "?" may be absent. */
interface Members {
  fields: Record<string, Check>
  slots: string[]
}

const DENSE_FORMS: Record<DenseForm['form'], Members> = {
  matrix: { fields: linear, slots: ['dW'] },
  hadamard: {
    fields: { ...linear, rank: count, scale: decimal },
    slots: ['w1a', 'w1b', 'w2a', 'w2b'],
  },
  kronecker: {
    fields: {
      ...{ ...linear, scale: decimal, shape1: pair, shape2: pair },
      ...{ 'rank1?': count, 'rank2?': count },
    },
    slots: ['w1?', 'w1a?', 'w1b?', 'w2?', 'w2a?', 'w2b?'],
  },
  rotation: {
    fields: {
      ...{ ...linear, blockSize: count, shared: boolean },
      ...{ 'series?': decimals, 'maxNorm?': decimal },
    },
    slots: ['Q'],
  },
  butterfly: { fields: { ...linear, blockSize: count, factors: count }, slots: ['R', 's'] },
  spectrum: {
    fields: { ...linear, frequencies: count, scale: decimal },
    slots: ['values', 'indices'],
  },
}

const KINDS: Record<Exclude<OperationKind, 'dense'>, Members> = {
  low_rank: {
    fields: { ...linear, rank: count, scale: decimal, 'experts?': count, 'kernel?': shape },
    slots: ['A', 'B', 'Bbias?', 'E?', 'D?'],
  },
  magnitude: { fields: { ...linear, rank: count, scale: decimal }, slots: ['A', 'B', 'm'] },
  scale: { fields: { site: path, side: one('input', 'output'), size: count }, slots: ['l'] },
  bottleneck: {
    fields: {
      site: path,
      placement: one('attention', 'ffn', 'parallel_attention', 'parallel_ffn'),
      hidden: count,
      reduced: count,
      activation: one(...ACTIVATIONS),
      originalLnBefore: boolean,
      originalLnAfter: boolean,
      residual: one('before_ln', 'after_ln', 'post_add'),
      adapterResidualBeforeLn: boolean,
      scaling,
    },
    slots: [
      ...['downW', 'downB?', 'upW', 'upB?', 'lnBeforeW?', 'lnBeforeB?', 'lnAfterW?', 'lnAfterB?'],
      ...['gateW?', 'gateB?', 'scaling?'],
    ],
  },
  prefix: {
    fields: {
      site: path,
      kvHeads: count,
      headDim: count,
      virtualTokens: count,
      'firstPosition?': (value, where) => integer(value, where, 0),
    },
    slots: ['k', 'v'],
  },
  prompt: { fields: { site: path, virtualTokens: count, hidden: count }, slots: ['E'] },
  replace: {
    fields: { site: path, param: one('weight', 'bias'), shape, 'rows?': rows },
    slots: ['value'],
  },
}

function membersOf(value: unknown, kind: OperationKind, where: string): Members {
  if (kind !== 'dense') return KINDS[kind]
  const forms = Object.keys(DENSE_FORMS) as DenseForm['form'][]
  const form = oneOf(object(value, where)['form'], `${where}.form`, forms)
  const { fields, slots } = DENSE_FORMS[form]
  return { fields: { form: one(form), ...fields }, slots }
}

function checkTogether(op: Fields, where: string): void {
  if (op['op'] === 'low_rank' && op['experts'] !== undefined) {
    if (op['kernel'] !== undefined) fail(`${where}.kernel`, 'absent where experts is', op['kernel'])
    const vector = ['Bbias', 'E', 'D'].find((slot) => Object.hasOwn(op['slots'] as Fields, slot))
    if (vector) fail(`${where}.slots.${vector}`, 'absent where experts is', vector)
  }
  if (op['op'] === 'low_rank' && (op['kernel'] as number[] | undefined)?.length === 0)
    fail(`${where}.kernel`, 'at least one size', op['kernel'])
  if (op['op'] === 'bottleneck') {
    const slots = op['slots'] as Fields
    const learned = op['scaling'] === 'learned' || op['scaling'] === 'channel'
    if (learned !== Object.hasOwn(slots, 'scaling'))
      fail(`${where}.slots.scaling`, learned ? 'present' : 'absent', slots['scaling'])
    for (const [bias, weight] of [
      ['lnBeforeB', 'lnBeforeW'],
      ['lnAfterB', 'lnAfterW'],
      ['gateB', 'gateW'],
    ] as const)
      if (Object.hasOwn(slots, bias) && !Object.hasOwn(slots, weight))
        fail(`${where}.slots.${weight}`, `present where ${bias} is`, undefined)
  }
  if (op['op'] === 'replace' && op['rows'] !== undefined) {
    const [first] = op['shape'] as number[]
    if (first !== (op['rows'] as number[]).length)
      fail(`${where}.shape`, `${(op['rows'] as number[]).length} rows`, op['shape'])
  }
}

/**
 * Unknown kinds and unknown fields are refused: an operation half understood computes something else.
 * @throws ERR_MANIFEST_INVALID
 */
export function parseOperation(value: unknown, where: string): Operation {
  const kind = oneOf(
    object(value, where)['op'],
    `${where}.op`,
    Object.keys(OPERATIONS) as OperationKind[],
  )
  const { fields, slots } = membersOf(value, kind, where)
  const op = exactly(value, where, ['op', 'slots', ...Object.keys(fields)])
  for (const [name, check] of Object.entries(fields)) {
    const key = name.replace('?', '')
    if (Object.hasOwn(op, key)) check(op[key], `${where}.${key}`)
  }
  const filled = exactly(op['slots'], `${where}.slots`, slots)
  for (const [slot, tensor] of Object.entries(filled)) string(tensor, `${where}.slots.${slot}`)
  checkTogether(op, where)
  const operation = op as unknown as Operation
  if (operation.op === 'dense') checkDenseSizes(operation, where)
  return operation
}
