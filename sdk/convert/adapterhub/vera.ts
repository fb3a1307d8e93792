import { toDecimal } from '@graft/sdk/format/decimal.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { LowRank } from '@graft/sdk/format/operations.ts'
import { diagonalOf, isDiagonal } from '../diagonal.ts'
import type { LoraSettings } from './lora.ts'
import { expectShape, linearAt } from './shapes.ts'
import type { Place } from './targets.ts'
import type { Work } from './work.ts'

/**
 * VeRA: frozen A [r, in] and B [out, r] that all modules share, and per module vera_D [r, r] and vera_B [out, out], which
 * the library keeps and trains as whole matrices. Diagonal ones are the paper's vectors (arXiv 2310.11454).
 */
export async function compileVera(
  work: Work,
  places: readonly Place[],
  { r, alpha }: LoraSettings,
): Promise<LowRank[]> {
  const { collector, name, blocks } = work
  const shared = (part: string): string =>
    collector.keys.find((key) => key.endsWith(`shared_parameters.${name}.${part}`)) ??
    `shared_parameters.${name}.${part}`
  const [keyA, keyB] = [shared('lora_A'), shared('lora_B')]
  const [a, b] = [collector.peek(keyA)?.shape ?? [], collector.peek(keyB)?.shape ?? []]
  const A = collector.take(keyA, '@shared', `vera.A.${a[1]}`)
  const B = collector.take(keyB, '@shared', `vera.B.${b[0]}`)
  const operations: LowRank[] = []
  for (const { layer, target } of places) {
    const site = `${blocks[layer]}.${target.path}`
    const linear = linearAt(work, site)
    if (a.join() !== [r, linear.in].join() || b.join() !== [linear.out, r].join())
      throw new GraftError(
        'ERR_TENSOR_SHAPE',
        `the shared lora_A [${a}] and lora_B [${b}] do not fit ${site}, ${linear.in} -> ${linear.out} of rank ${r}`,
      )
    const vector = async (part: string, size: number, slot: string): Promise<string> => {
      const key = work.keyIn(layer, `${target.path}.loras.${name}.${part}`)
      expectShape(work, key, [size, size])
      const matrix = collector.peek(key)
      if (matrix === null)
        throw new GraftError('ERR_TENSOR_MISSING', `tensor ${key} is absent, ${site} needs it`)
      if (!(await isDiagonal(matrix)))
        throw new GraftError(
          'ERR_METHOD_UNSUPPORTED',
          `${key} is a whole matrix: the library trains VeRA's vectors as matrices, and no operation holds them. Publish it as LoRA of A' = vera_D @ lora_A and B' = vera_B @ lora_B, or train with PEFT, whose VeRA keeps vectors`,
        )
      return collector.add(key, site, slot, diagonalOf(matrix), 'diagonal')
    }
    const E = await vector('vera_D', r, 'vera.d')
    const D = await vector('vera_B', linear.out, 'vera.b')
    operations.push({
      op: 'low_rank',
      site,
      in: linear.in,
      out: linear.out,
      rank: r,
      scale: toDecimal(alpha / r),
      slots: { A, B, E, D },
    })
  }
  return operations
}
