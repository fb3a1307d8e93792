import type { BaseSites } from './base-sites.ts'
import { type ErrorCode, expected, GraftError } from './errors.ts'
import type { LowRank, Operation } from './operations.ts'

const refuse = (code: ErrorCode, where: string, what: string, got: unknown): never => {
  throw new GraftError(code, expected(where, what, got))
}

const same = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((dim, i) => dim === b[i])

/** The shape that `param` of `site` has in the base, or a refusal that says what to check. */
function baseShape(sites: BaseSites, tensor: string, kind: string): number[] {
  const shape = sites.shape(tensor)
  if (shape) return shape
  throw new GraftError(
    'ERR_TENSOR_UNMATCHED',
    `${kind} names ${tensor}, which the base does not have; the adapter was made for another base`,
  )
}

/** What a low rank update may sit on besides a linear layer: a stack of matrices, a convolution. @returns whether it was one */
function checkStackOrKernel(op: LowRank, shape: number[], where: string): boolean {
  if (op.experts === undefined && op.kernel === undefined) return false
  const want =
    op.experts === undefined
      ? [[op.out, op.in, ...(op.kernel ?? [])]]
      : [
          [op.experts, op.out, op.in],
          [op.experts, op.in, op.out],
        ]
  if (!want.some((one) => same(one, shape)))
    refuse(
      'ERR_TENSOR_SHAPE',
      where,
      `a weight of ${want.map((one) => `[${one}]`).join(' or ')}`,
      shape,
    )
  return true
}

/**
 * Every operation sits on something the base has, of the size the operation says.
 * @throws ERR_TENSOR_UNMATCHED, ERR_TENSOR_SHAPE
 */
export function checkSite(op: Operation, sites: BaseSites): void {
  const where = `${op.op} at ${op.site}`
  const differs = (what: string, got: unknown) => refuse('ERR_TENSOR_SHAPE', where, what, got)
  switch (op.op) {
    case 'low_rank':
    case 'magnitude':
    case 'dense':
    case 'scale': {
      // A parameter of its own (stacked experts) has no ".weight" under its name.
      const own = op.op === 'low_rank' && op.experts !== undefined ? sites.shape(op.site) : null
      const shape = own ?? baseShape(sites, `${op.site}.weight`, where)
      if (op.op === 'low_rank' && checkStackOrKernel(op, shape, where)) return
      const linear =
        (op.op === 'low_rank' ? sites.embedding(op.site) : null) ?? sites.linear(op.site)
      if (!linear) differs('on a linear layer', sites.shape(`${op.site}.weight`))
      else if (op.op === 'scale') {
        const size = op.side === 'input' ? linear.in : linear.out
        if (op.size !== size) differs(`of size ${size}`, op.size)
      } else if (op.in !== linear.in || op.out !== linear.out)
        differs(`${linear.in} -> ${linear.out} as in the base`, `${op.in} -> ${op.out}`)
      return
    }
    case 'prompt': {
      const [, hidden] = baseShape(sites, `${op.site}.weight`, where)
      if (hidden !== op.hidden) differs(`of hidden size ${hidden}`, op.hidden)
      return
    }
    case 'replace': {
      const [rows = 0, ...rest] = baseShape(sites, `${op.site}.${op.param}`, where)
      if (!same(op.shape, [op.rows?.length ?? rows, ...rest]))
        differs(`of shape [${[op.rows?.length ?? rows, ...rest]}]`, op.shape)
      if (op.rows?.some((row) => row >= rows)) differs(`of rows below ${rows}`, op.rows)
      return
    }
    case 'prefix': {
      if (!sites.has(op.site)) baseShape(sites, op.site, where)
      const keys = sites.linear(`${op.site}.k_proj`)
      if (keys && keys.out !== op.kvHeads * op.headDim)
        differs(`of ${keys.out} key values per token`, op.kvHeads * op.headDim)
      return
    }
    case 'bottleneck': {
      if (!sites.has(op.site)) baseShape(sites, op.site, where)
      const inside = sites.modules.filter((path) => path.startsWith(`${op.site}.`))
      if (!inside.some((path) => sites.shape(`${path}.weight`)?.includes(op.hidden)))
        differs('of the hidden size of its block', op.hidden)
      return
    }
  }
}
