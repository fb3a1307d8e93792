import { setImmediate } from 'node:timers/promises'
import type { Engine, LoadedAdapter } from '@graft/runner/engine/engine.ts'
import { createMergedForms } from '@graft/runner/merging/merged-forms.ts'
import { type Digest, fromHex } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { expect, test } from 'vitest'

const [one, two, hot] = ['1', '2', 'f'].map((digit) => fromHex(digit.repeat(64)))
const never = new AbortController().signal

/** Forms by name alone, in room for `most`; `ends` holds back the end of a form's last answers. */
function formsIn(most: number, ends: Promise<void> = Promise.resolve()) {
  const standing: Digest[] = []
  let taken = 0
  const built: Digest[] = []
  return {
    built,
    standing,
    engine: {
      async merge({ digest }: LoadedAdapter, prove: (merged: Engine) => Promise<void>) {
        if (taken === most) throw new GraftError('ERR_BANK_FULL', 'no room')
        taken++
        try {
          await prove({} as Engine)
        } catch (e) {
          taken--
          throw e
        }
        standing.push(digest)
        built.push(digest)
        return { digest, bytes: 1, buildMs: 1 }
      },
      async unmerge(digest: Digest) {
        const at = standing.indexOf(digest)
        if (at < 0) return
        standing.splice(at, 1)
        await ends
        taken--
      },
      merged: () => standing.map((digest) => ({ digest, bytes: 1, buildMs: 1 })),
      mergeRoom: () => most - taken,
    },
  }
}

const build = (digest: Digest, prove: () => Promise<void> = async () => {}) => ({
  adapter: async (): Promise<LoadedAdapter> => ({ digest, operations: [], tensors: new Map() }),
  prove,
})

test('a form that is pinned stays, and who waits too long is told when to come back', async () => {
  const { engine, built } = formsIn(1)
  const forms = createMergedForms(engine, 30)
  const release = await forms.pin(one!, build(one!), never)
  await expect(forms.pin(two!, build(two!), never)).rejects.toMatchObject({
    code: 'ERR_BANK_FULL',
    retryAfter: 1,
    message: expect.stringContaining('--merge <MiB>'),
  })
  release()
  release()
  const later = await forms.pin(two!, build(two!), never)
  expect([built, forms.entries()]).toEqual([[one, two], [two]])
  later()
})

test('who waits gets the place when it is released', async () => {
  const { engine } = formsIn(1)
  const forms = createMergedForms(engine, 10_000)
  const release = await forms.pin(one!, build(one!), never)
  const waiting = forms.pin(two!, build(two!), never)
  setTimeout(release, 20)
  await waiting
  expect(forms.entries()).toEqual([two])
})

test('the longest unused leaves first, and forms that only save time after those', async () => {
  const { engine, standing } = formsIn(3)
  await engine.merge(await build(hot!).adapter(), async () => {})
  const forms = createMergedForms(engine, 1_000)
  const three = fromHex('3'.repeat(64))
  // A form that was just built is held for a turn, for those who waited for it.
  const pinned = async (digest: Digest) => {
    ;(await forms.pin(digest, build(digest), never))()
    await setImmediate()
  }
  await pinned(one!)
  await pinned(two!)
  forms.use(one!)!()
  await pinned(three)
  expect(standing).toEqual([hot, one, three])
  forms.use(one!)
  forms.use(three)
  const four = fromHex('4'.repeat(64))
  await forms.pin(four, build(four), never)
  expect(standing).toEqual([one, three, four])
  expect([forms.holds(hot!), forms.holds(four)]).toEqual([false, true])
})

test('nobody waits longer than told for the last answers of a form that leaves', async () => {
  const { engine } = formsIn(1, new Promise(() => {}))
  await engine.merge(await build(hot!).adapter(), async () => {})
  const forms = createMergedForms(engine, 30)
  await expect(forms.pin(one!, build(one!), never)).rejects.toMatchObject({ code: 'ERR_BANK_FULL' })
})

test('many who ask at once share one build, and one who leaves stops nobody else', async () => {
  const { engine, built } = formsIn(2)
  const forms = createMergedForms(engine, 1_000)
  const gone = new AbortController()
  const slow = build(one!, () => new Promise((resolve) => setTimeout(resolve, 30)))
  const pins = [gone.signal, never, never].map((signal) => forms.pin(one!, slow, signal))
  gone.abort(new Error('left'))
  await expect(pins[0]).rejects.toThrow('left')
  await Promise.all(pins.slice(1))
  expect(built).toEqual([one])
})

test('what fails its proof leaves no form, and the next may try', async () => {
  const { engine, standing } = formsIn(1)
  const forms = createMergedForms(engine, 1_000)
  const wrong = build(one!, () => Promise.reject(new GraftError('ERR_ADMISSION_FAILED', 'wrong')))
  await expect(forms.pin(one!, wrong, never)).rejects.toMatchObject({
    code: 'ERR_ADMISSION_FAILED',
  })
  expect([standing, forms.holds(one!), engine.mergeRoom()]).toEqual([[], false, 1])
  await forms.pin(one!, build(one!), never)
  expect(standing).toEqual([one])
})

test('a form is freed after the last who pinned it, and takes no new ones meanwhile', async () => {
  const { engine, standing } = formsIn(1)
  const forms = createMergedForms(engine, 1_000)
  const release = await forms.pin(one!, build(one!), never)
  const freed = forms.free(one!)
  expect(forms.use(one!)).toBeNull()
  expect(standing).toEqual([one])
  release()
  await freed
  expect([standing, forms.holds(one!)]).toEqual([[], false])
})
