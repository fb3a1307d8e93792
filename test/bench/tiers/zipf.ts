/** Draws ranks 0..count-1 with probability proportional to 1 / (rank + 1)^alpha. */
export function zipf(count: number, alpha: number, random: () => number): () => number {
  const sums: number[] = []
  let sum = 0
  for (let rank = 1; rank <= count; rank++) sums.push((sum += rank ** -alpha))
  return () => {
    const at = random() * sum
    let [low, high] = [0, count - 1]
    while (low < high) {
      const middle = (low + high) >> 1
      if (sums[middle]! > at) high = middle
      else low = middle + 1
    }
    return low
  }
}
