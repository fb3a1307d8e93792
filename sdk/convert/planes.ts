/**
 * Copies one of `count` planes out of [tokens, count, heads, dim] into [heads, tokens, dim], or back.
 * Rows of dim elements stay whole, so any dtype moves as bytes.
 */
export function movePlane(
  source: Uint8Array,
  plane: Uint8Array,
  sizes: { tokens: number; count: number; heads: number; rowBytes: number },
  index: number,
  direction: 'split' | 'join',
): void {
  const { tokens, count, heads, rowBytes } = sizes
  for (let t = 0; t < tokens; t++)
    for (let h = 0; h < heads; h++) {
      const outer = ((t * count + index) * heads + h) * rowBytes
      const inner = (h * tokens + t) * rowBytes
      if (direction === 'split') plane.set(source.subarray(outer, outer + rowBytes), inner)
      else source.set(plane.subarray(inner, inner + rowBytes), outer)
    }
}
