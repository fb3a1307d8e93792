import type { Activation } from '@graft/sdk/format/operations.ts'
import { activate } from './activations.ts'
import { bottleneckKey, type Placement } from './bottleneck-keys.ts'
import type { GraphContext } from './context.ts'
import { PAGE_RANK } from './low-rank-pages.ts'
import { ONNX_TYPE } from './onnx-model.ts'
import type { Traits } from './traits.ts'

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
 *   bottleneck.<place>.pages.tokens [P,i,j], .valid [P,i,j,1], .sum [U,K], .ones [U,1,K], .put_sums [U,1,1]
 *   .reads_sum, .reads_stream [tokens,1] what a token's bottleneck reads, where they differ
 *   .is_<activation> [P,1,1,rank] which one a row of a page has, where there are several
 *   <block>:<place>.pages.down [P,1,hidden,rank], .bias [P,1,1,rank], .up [P,1,rank,hidden]
 *
 * u is a row like the others: of no input, with a bias whose activation is known (activations.ts). Where no row of the run
 * has a bottleneck at the place P is 0: a chain over nothing costs less than a branch.
 */
export function bottleneckPageInputs({ m, traits }: GraphContext): void {
  for (const place of traits.places) {
    const name = (part: string) => inputName(place, part)
    const [p, i, j] = dims(place)
    m.input(name('tokens'), INT64, [p, i, j])
    m.input(name('valid'), BOOL, [p, i, j, 1])
    if (traits.reads.size > 1)
      for (const flag of ['reads_sum', 'reads_stream']) m.input(name(flag), BOOL, ['tokens', 1])
    for (const activation of selected(traits))
      m.input(name(`is_${activation}`), BOOL, [p, 1, 1, PAGE_RANK])
    m.input(name('sum'), INT64, [`${place}.U`, `${place}.K`])
    m.input(name('ones'), FLOAT, [`${place}.U`, 1, `${place}.K`])
    m.input(name('put_sums'), INT64, [`${place}.U`, 1, 1])
  }
}

/** Activations that are chosen by row: a single one needs no choice, and `linear` is the absence of one. */
const selected = ({ activations }: Traits): Activation[] =>
  activations.size > 1 ? [...activations].filter((name) => name !== 'linear') : []

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
  const sum = () => m.node('Add', [output, stream])
  const choose = () => {
    const some = m.node('Where', [input('reads_sum'), sum(), output])
    return m.node('Where', [input('reads_stream'), stream, some])
  }
  const value = { output: () => output, sum, stream: () => stream }
  const [reads] = traits.reads
  const read = traits.reads.size > 1 ? choose() : value[reads!]()
  const z = m.node('Gather', [read, input('tokens')], { axis: 0 })
  const reduced = m.node('Add', [m.node('MatMul', [z, down]), bias])
  const choices = selected(traits)
  const [only = 'linear'] = choices.length > 0 ? [] : traits.activations
  const act = choices.reduce(
    (rest, name) => m.node('Where', [input(`is_${name}`), activate(m, name, reduced), rest]),
    activate(m, only, reduced),
  )
  const own = m.node('Where', [input('valid'), act, zero])
  const rows = m.node('Reshape', [m.node('MatMul', [own, up]), m.integers([-1, hidden])])
  const terms = m.node('Gather', [rows, input('sum')], { axis: 0 })
  const updates = m.node('MatMul', [input('ones'), terms])
  return m.node('ScatterND', [output, input('put_sums'), updates], { reduction: 'add' })
}
