const MASK = (1n << 64n) - 1n

/** One step of SplitMix64 (Steele, Lea, Flood 2014): a bijection of 64 bits that passes BigCrush. */
function mix(value: bigint): bigint {
  let z = (value + 0x9e3779b97f4a7c15n) & MASK
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & MASK
  return z ^ (z >> 31n)
}

/**
 * The random number of one draw, in [0, 1): mix(mix(mix(seed) ^ choice) ^ position), its top 53 bits over 2^53.
 * A pure function of its three integers, so that a stream continued on another runner draws what the first would have.
 * `position` is the token's index in the answer, from 0.
 */
export function randomUnit(seed: number, choice: number, position: number): number {
  const bits = mix(mix(mix(BigInt.asUintN(64, BigInt(seed))) ^ BigInt(choice)) ^ BigInt(position))
  return Number(bits >> 11n) / 2 ** 53
}
