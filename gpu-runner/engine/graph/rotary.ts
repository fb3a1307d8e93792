/** cos and sin [positions, headDim / 2] of RoPE (arXiv 2104.09864), computed in f64 and rounded once. */
export function rotaryTables(
  positions: number,
  headDim: number,
  theta: number,
): { cos: Float32Array; sin: Float32Array } {
  const half = headDim / 2
  const cos = new Float32Array(positions * half)
  const sin = new Float32Array(positions * half)
  for (let i = 0; i < half; i++) {
    // The peers hold inverse frequencies in f32 and multiply in f32; so do we, to agree at long positions.
    const frequency = Math.fround(1 / theta ** ((2 * i) / headDim))
    for (let p = 0; p < positions; p++) {
      const angle = Math.fround(p * frequency)
      cos[p * half + i] = Math.cos(angle)
      sin[p * half + i] = Math.sin(angle)
    }
  }
  return { cos, sin }
}
