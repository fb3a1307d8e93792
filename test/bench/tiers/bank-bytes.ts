import { compileAdapter } from '@graft/runner/engine/bank/compile-adapter.ts'
import { randomLora } from '../random-adapters.ts'
import { randomBase } from '../random-base.ts'
import { SHAPES } from '../shapes.ts'

/** What one LoRA of the 135M shape takes in a bank, by the engine's own count. */
export async function bankBytesOf(rank: number): Promise<number> {
  const checkpoint = randomBase('random-135m', SHAPES['135m'])
  return (await compileAdapter(randomLora(1, checkpoint.config, rank), checkpoint)).bytes
}
