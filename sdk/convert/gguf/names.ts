import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { ARCHITECTURES, type Architecture } from './architectures.ts'

/**
 * The family that a file says it is for, which must be the base's.
 * @throws ERR_ARCHITECTURE_UNSUPPORTED, ERR_BASE_MISMATCH
 */
export function architectureNamed(name: string, modelType: string): Architecture {
  const architecture = ARCHITECTURES.find((one) => one.name === name)
  if (architecture === undefined)
    throw new GraftError(
      'ERR_ARCHITECTURE_UNSUPPORTED',
      `${expected('GGUF: general.architecture', `one of ${ARCHITECTURES.map((one) => one.name).join(', ')}`, name)}; convert the adapter from its PEFT folder instead`,
    )
  if (architecture.modelTypes.includes(modelType)) return architecture
  throw new GraftError(
    'ERR_BASE_MISMATCH',
    `the adapter is for llama.cpp's ${name}, which is ${architecture.modelTypes.join(', ')}, and the base is ${modelType}`,
  )
}

/** @throws ERR_ARCHITECTURE_UNSUPPORTED */
export function architectureOf(modelType: string): Architecture {
  const found = ARCHITECTURES.find(({ modelTypes }) => modelTypes.includes(modelType))
  if (found !== undefined) return found
  throw new GraftError(
    'ERR_ARCHITECTURE_UNSUPPORTED',
    `llama.cpp's names of a ${modelType} base are not known; they are of ${ARCHITECTURES.flatMap(({ modelTypes }) => modelTypes).join(', ')}`,
  )
}

export type Role = 'linear' | 'embedding'

/** Checkpoint path of the module that owns a tensor of llama.cpp, `blk.0.attn_q.weight`; null when the family has none. */
export function pathOf(
  { blocks, modules, embedding }: Architecture,
  tensor: string,
): { path: string; role: Role } | null {
  if (tensor === 'token_embd.weight') return { path: embedding, role: 'embedding' }
  if (tensor === 'output.weight') return { path: 'lm_head', role: 'linear' }
  const [, layer, name = ''] = /^blk\.(0|[1-9]\d*)\.([a-z_]+)\.weight$/.exec(tensor) ?? []
  if (layer === undefined || !Object.hasOwn(modules, name)) return null
  return { path: `${blocks}.${layer}.${modules[name]}`, role: 'linear' }
}

/**
 * The inverse: llama.cpp's tensor of a site; null when it has none. Checkpoints saved from the inner class lack the first
 * part of their paths (`h.0.attn.c_attn`).
 */
export function tensorOfSite(
  { blocks, modules, embedding }: Architecture,
  site: string,
): { tensor: string; role: Role } | null {
  const inner = (path: string): string => path.slice(path.indexOf('.') + 1)
  if (site === embedding || site === inner(embedding))
    return { tensor: 'token_embd.weight', role: 'embedding' }
  if (site === 'lm_head') return { tensor: 'output.weight', role: 'linear' }
  for (const start of [blocks, inner(blocks)]) {
    if (!site.startsWith(`${start}.`)) continue
    const [layer = '', ...rest] = site.slice(start.length + 1).split('.')
    const name = Object.keys(modules).find((key) => modules[key] === rest.join('.'))
    if (/^\d+$/.test(layer) && name !== undefined)
      return { tensor: `blk.${layer}.${name}.weight`, role: 'linear' }
  }
  return null
}

/** What llama.cpp's other tensors are, for refusals. */
export function explainTensor(tensor: string): string {
  if (/_exps\./.test(tensor)) return 'it is a stack of experts, which are not imported from GGUF'
  if (/\.attn_qkv\./.test(tensor))
    return 'q, k and v are fused in it (--fuse-qkv) and apart in the base; convert the adapter again without'
  return 'the base has no such module'
}
