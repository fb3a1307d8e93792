import { activate } from './activations.ts'
import { bottleneckKey, PLACEMENTS, type Placement } from './bottleneck-keys.ts'
import type { GraphContext } from './context.ts'
import { PAGE_RANK } from './low-rank-pages.ts'
import { ONNX_TYPE } from './onnx-model.ts'

const { FLOAT, INT64, BOOL } = ONNX_TYPE

/** Tables of one place in the bank, and floats of a page of each. */
export const bottleneckTables = (
  key: string,
  hidden: number,
): [table: string, floats: number][] => [
  [`${key}.pages.down`, hidden * PAGE_RANK],
  [`${key}.pages.bias`, PAGE_RANK],
  [`${key}.pages.up`, PAGE_RANK * hidden],
]

/**
 * Bottlenecks without norms and gates of their own: U act(D z + d) + u is added to what the block adds to its stream.
 * As pages of the bank, read as low-rank-pages.ts says; a token's pages are summed always.
 *
 *   bottleneck.<place>.pages.tokens [P,i,j], .valid [P,i,j,1], .sum [U,K], .put_sums [U,1]
 *   .reads_sum, .reads_stream [P,i,j,1] what is read, where any reads more than the output
 *   .constant [P,1,1,rank] rows whose activation is 1, which hold u; .is_<activation> [P,1,1,rank]
 *   <block>:<place>.pages.down [P,1,hidden,rank], .bias [P,1,1,rank], .up [P,1,rank,hidden]
 *
 * Where no row has one at the place P is 0: a chain over nothing costs less than a branch.
 */
export function bottleneckPageInputs({ m, traits }: GraphContext): void {
  for (const place of PLACEMENTS) {
    const name = (part: string) => inputName(place, part)
    const [p, i, j] = dims(place)
    m.input(name('tokens'), INT64, [p, i, j])
    for (const flag of ['valid', ...(traits.reads ? ['reads_sum', 'reads_stream'] : [])])
      m.input(name(flag), BOOL, [p, i, j, 1])
    for (const flag of ['constant', ...[...traits.activations].map((act) => `is_${act}`)])
      m.input(name(flag), BOOL, [p, 1, 1, PAGE_RANK])
    m.input(name('sum'), INT64, [`${place}.U`, `${place}.K`])
    m.input(name('put_sums'), INT64, [`${place}.U`, 1])
  }
}

const inputName = (place: Placement, part: string): string => `bottleneck.${place}.pages.${part}`
const dims = (place: Placement) => [`${place}.P`, `${place}.i`, `${place}.j`] as const

/**
 * @param stream the residual stream [tokens,hidden]
 * @param output the sub-layer's output [tokens,hidden]
 * @returns the name of the output with the bottlenecks of this place added
 */
export function bottleneckPages(
  context: GraphContext,
  block: string,
  place: Placement,
  stream: string,
  output: string,
): string {
  const { m, checkpoint, zero, traits } = context
  const { hidden } = checkpoint.config
  const key = bottleneckKey(block, place)
  const input = (part: string) => inputName(place, part)
  const [p] = dims(place)
  const down = m.input(`${key}.pages.down`, FLOAT, [p, 1, hidden, PAGE_RANK])
  const bias = m.input(`${key}.pages.bias`, FLOAT, [p, 1, 1, PAGE_RANK])
  const up = m.input(`${key}.pages.up`, FLOAT, [p, 1, PAGE_RANK, hidden])
  const one = m.constant('one', FLOAT, [], new Float32Array([1]))
  const read = (value: string) => m.node('Gather', [value, input('tokens')], { axis: 0 })
  const choose = () => {
    const [h, x] = [read(output), read(stream)]
    const sum = m.node('Where', [input('reads_sum'), m.node('Add', [h, x]), h])
    return m.node('Where', [input('reads_stream'), x, sum])
  }
  const z = traits.reads ? choose() : read(output)
  const reduced = m.node('Add', [m.node('MatMul', [z, down]), bias])
  const act = [...traits.activations].reduce(
    (rest, name) => m.node('Where', [input(`is_${name}`), activate(m, name, reduced), rest]),
    reduced,
  )
  const whole = m.node('Where', [input('constant'), one, act])
  const own = m.node('Where', [input('valid'), whole, zero])
  const rows = m.node('Reshape', [m.node('MatMul', [own, up]), m.integers([-1, hidden])])
  const terms = m.node('Gather', [rows, input('sum')], { axis: 0 })
  const sum = m.node('ReduceSum', [terms, m.integers([1])], { keepdims: 0 })
  return m.node('ScatterND', [output, input('put_sums'), sum], { reduction: 'add' })
}
