import { verifyCharge, verifyReceipt } from '@graft/sdk/client/verify-receipt.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { generateSigningKey, signCompact } from '@graft/sdk/format/jws.ts'
import type { Receipt, RunnerReceipt } from '@graft/sdk/protocol/receipts.ts'
import { beforeAll, expect, it } from 'vitest'

const zero = `sha256:${'0'.repeat(64)}` as Digest
let edge: Awaited<ReturnType<typeof generateSigningKey>>
let runner: typeof edge
beforeAll(async () => {
  edge = await generateSigningKey()
  runner = await generateSigningKey()
})

const RAN: RunnerReceipt = {
  ...{ v: 1, requestId: 'req_1', requestHash: zero, tenant: 'acme', base: zero, adapters: [] },
  ...{ mergeState: 'none', finish: 'stop', runner: { id: 'r', build: 'b' }, issuedAt: '' },
  tokens: { prompt: 10, cached: 4, completion: 3 },
}
const CHARGED: Omit<Receipt, 'runner'> = {
  ...{ v: 1, requestId: 'req_1', tenant: 'acme', model: 'm', outcome: 'complete', issuedAt: '' },
  billed: { prompt: 10, cached: 4, completion: 3 },
  price: { version: '1', input: 10, output: 100, cached: 2 },
  charged: 6 * 10 + 4 * 2 + 3 * 100,
  ...{ currency: 'USD', holdId: 'h' },
}

async function check(
  receipt: Partial<Receipt> = {},
  ran: Partial<RunnerReceipt> = {},
  sign: { edge?: typeof edge; runner?: typeof edge } = {},
  verify: typeof verifyReceipt | typeof verifyCharge = verifyReceipt,
) {
  const inner = await signCompact(
    { ...RAN, ...ran },
    'graft-runner-receipt+jws',
    sign.runner ?? runner,
  )
  const compact = await signCompact(
    { ...CHARGED, runner: inner, ...receipt },
    'graft-receipt+jws',
    sign.edge ?? edge,
  )
  return verify(compact, { edge: [edge.publicJwk], runners: [runner.publicJwk] })
}
const code = (wanted: string) => expect.objectContaining({ code: wanted })

it('accepts an honest receipt and gives both statements', async () => {
  expect(await check()).toMatchObject({ receipt: CHARGED, runner: RAN })
})

it.each<[string, Partial<Receipt>, Partial<RunnerReceipt>]>([
  ['a charge one nano-unit off', { charged: CHARGED.charged + 1 }, {}],
  ['a charge below what was stated', { charged: CHARGED.charged - 1 }, {}],
  ['a price with a fraction', { price: { ...CHARGED.price, input: 10.5 } }, {}],
  [
    'more completion tokens than ran',
    { charged: 468, billed: { prompt: 10, cached: 4, completion: 4 } },
    {},
  ],
  ['more prompt tokens than ran', {}, { tokens: { prompt: 9, cached: 4, completion: 3 } }],
  ['more cached than prompt tokens', { billed: { prompt: 3, cached: 4, completion: 3 } }, {}],
  ['negative counts', { billed: { prompt: -1, cached: 0, completion: 0 } }, {}],
  ['another request', {}, { requestId: 'req_2' }],
  ['another tenant', { tenant: 'globex' }, {}],
  ['a complete call that no runner signed', { runner: null }, {}],
  ['a charge for a failed call', { outcome: 'failed' }, {}],
  ['another version', { v: 2 as 1 }, {}],
])('refuses %s', async (_, receipt, ran) => {
  await expect(check(receipt, ran)).rejects.toThrow(code('ERR_RECEIPT_INVALID'))
})

it('counts tokens of a runner that failed before only when the edge states them', async () => {
  const billed = { prompt: 10, cached: 4, completion: 5 }
  const charged = 6 * 10 + 4 * 2 + 5 * 100
  await expect(check({ billed, charged, resumed: 2 })).resolves.toBeDefined()
  await expect(check({ billed, charged, resumed: 1 })).rejects.toThrow(code('ERR_RECEIPT_INVALID'))
})

it('refuses signatures by strangers and a runner that signs as the edge', async () => {
  const stranger = await generateSigningKey()
  await expect(check({}, {}, { edge: stranger })).rejects.toThrow(code('ERR_KEY_UNKNOWN'))
  await expect(check({}, {}, { runner: stranger })).rejects.toThrow(code('ERR_KEY_UNKNOWN'))
  await expect(check({}, {}, { edge: runner })).rejects.toThrow(code('ERR_KEY_UNKNOWN'))
  const typ = await signCompact(CHARGED, 'graft-runner-receipt+jws', edge)
  await expect(verifyReceipt(typ, { edge: [edge.publicJwk], runners: [] })).rejects.toThrow(
    code('ERR_SIGNATURE_INVALID'),
  )
  await expect(verifyReceipt('a.b', { edge: [], runners: [] })).rejects.toThrow(
    code('ERR_SIGNATURE_INVALID'),
  )
})

it('accepts an aborted call without a runner only where that is asked for', async () => {
  const aborted = { outcome: 'client_abort' as const, runner: null }
  expect(await check(aborted, {}, {}, verifyCharge)).toMatchObject({ runner: null })
  await expect(check(aborted)).rejects.toThrow(code('ERR_RECEIPT_INVALID'))
})
