import type { TokenMask } from './messages.ts'

/** Sets what the mask does not allow to -Infinity, in place. @returns false when nothing is left */
export function maskLogits(logits: Float32Array, mask: TokenMask): boolean {
  let left = false
  for (let word = 0; word * 32 < logits.length; word++) {
    const bits = word < mask.length ? mask[word]! : 0
    if (bits === -1) {
      left = true
      continue
    }
    const end = Math.min(logits.length, word * 32 + 32)
    for (let id = word * 32; id < end; id++)
      if ((bits >>> (id & 31)) & 1) left = true
      else logits[id] = Number.NEGATIVE_INFINITY
  }
  return left
}
