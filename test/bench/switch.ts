import { type Bench, NOTHING } from './bench.ts'
import { interleave, timed } from './interleave.ts'
import { randomLora } from './random-adapters.ts'
import { randomBase } from './random-base.ts'
import { openRandomEngine } from './random-engine.ts'
import { openRows, type Rows, randomPrompt } from './rows.ts'
import { SHAPES } from './shapes.ts'
import { speedRatio, summary } from './statistics.ts'

const SETS = 4
/** Rows of one set, each with an adapter of its own. */
const ROWS = 4
const PAST = 100

/**
 * A decode step whose adapters are all others than those of the step before, against one with the same adapters each
 * time: the same engine, the same open rows. Beside it, the same for requests that come and go: every step closes its
 * rows and opens new ones, on another set or on the same.
 */
export const switchSets: Bench = {
  about: 'another set of adapters in every step against the same set',
  needs: NOTHING,
  async run({ quick, progress }) {
    const checkpoint = randomBase('random-135m', SHAPES['135m'])
    const { config } = checkpoint
    await using engine = await openRandomEngine(checkpoint, {
      slots: SETS * ROWS + ROWS,
      bankBudgetBytes: 2 ** 31,
    })
    const sets = Array.from({ length: SETS }, (_, set) =>
      Array.from({ length: ROWS }, (_, row) => randomLora(set * ROWS + row + 1, config)),
    )
    for (const adapter of sets.flat()) await engine.load(adapter)
    const open: Rows[] = []
    for (const [i, set] of sets.entries()) open.push(await openRows(engine, i * 100, set, PAST))
    progress(`${SETS} sets of ${ROWS} rank-16 adapters open`)

    // Both arms step every set equally often, so that a set that happens to be slow weighs on both.
    let turn = 0
    const rounds = { warmUp: SETS, least: 2 * SETS, seconds: quick ? 12 : 60 }
    const steps = 2 * SETS
    const ms = await interleave(
      {
        // Each set twice the length of a round, one set after the other.
        same: () =>
          timed(async () => {
            const set = open[turn++ % SETS]!
            for (let i = 0; i < steps; i++) await set.step()
          }),
        another: () =>
          timed(async () => {
            for (let i = 0; i < steps; i++) await open[i % SETS]!.step()
          }),
      },
      { ...rounds, most: 12 * SETS },
    )
    progress(`${ms.same.length} rounds of ${steps} steps`)

    const sequence = 10_000
    let next = 0
    /** One step of requests that have just come: a prompt of one token each. */
    const visit = async (set: number): Promise<void> => {
      const ids = sets[set]!.map((_, row) => sequence + row)
      for (const [row, id] of ids.entries())
        await engine.open(id, [{ digest: sets[set]![row]!.digest, weight: 1 }])
      const [token] = randomPrompt(next++, 1, config.vocab)
      await engine.step(ids.map((id) => ({ sequence: id, tokenIds: [token!], logits: 'last' })))
      for (const id of ids) await engine.close(id)
    }
    for (const rows of open) await rows.close()
    const reopened = await interleave(
      {
        same: () =>
          timed(async () => {
            const set = turn++ % SETS
            for (let i = 0; i < steps; i++) await visit(set)
          }),
        another: () =>
          timed(async () => {
            for (let i = 0; i < steps; i++) await visit(i % SETS)
          }),
      },
      { ...rounds, most: 12 * SETS },
    )
    const { ratio, by_round } = speedRatio(ms.same, ms.another)
    const again = speedRatio(reopened.same, reopened.another)
    const perStep = (values: number[]) => summary(values.map((value) => value / steps))
    return {
      ratio,
      ratio_by_round: by_round,
      same_step_ms: perStep(ms.same),
      another_step_ms: perStep(ms.another),
      reopened_ratio: again.ratio,
      reopened_ratio_by_round: again.by_round,
      reopened_same_step_ms: perStep(reopened.same),
      reopened_another_step_ms: perStep(reopened.another),
      sets: SETS,
      rows: ROWS,
      past: PAST,
      shape: '135m',
      base_precision: engine.info.precision,
      bank_precision: engine.info.bankPrecision,
    }
  },
}
