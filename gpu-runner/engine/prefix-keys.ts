import type { Prefix } from '@graft/sdk/format/operations.ts'

/**
 * A prefix's keys [kvHeads, virtualTokens, headDim] as they stand in a cache that counts the prefix as positions. Where
 * the tool gave the first real token another position, queries are rotated d = virtualTokens - firstPosition too far;
 * keys rotated by d give the same products, since (R_d q) . (R_d k) = q . k. Rotary embedding of halves (arXiv 2104.09864).
 */
export function placedKeys<T extends Float32Array | Float64Array>(
  k: T,
  { virtualTokens, firstPosition = virtualTokens, headDim }: Prefix,
  theta: number,
): T {
  const distance = virtualTokens - firstPosition
  if (distance === 0) return k
  const placed = k.slice() as T
  const half = headDim / 2
  for (let row = 0; row < k.length; row += headDim)
    for (let i = 0; i < half; i++) {
      const angle = distance * Math.fround(1 / theta ** ((2 * i) / headDim))
      const [a, b] = [k[row + i]!, k[row + half + i]!]
      placed[row + i] = a * Math.cos(angle) - b * Math.sin(angle)
      placed[row + half + i] = b * Math.cos(angle) + a * Math.sin(angle)
    }
  return placed
}
