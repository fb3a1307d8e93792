import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { MAX_NANOS, type Nanos } from '@graft/sdk/protocol/ledger.ts'

/** @throws ERR_LEDGER_RANGE unless `amount` is an integer from `least` to 2^53 - 1 */
export function assertAmount(where: string, amount: unknown, least = 0): asserts amount is Nanos {
  if (typeof amount === 'number' && Number.isSafeInteger(amount) && amount >= least) return
  throw new GraftError(
    'ERR_LEDGER_RANGE',
    `${expected(where, `an integer of nano-units from ${least} to ${MAX_NANOS}`, amount)}; amounts are 1e-9 of the currency`,
  )
}

/** units x price, exact. @throws ERR_LEDGER_RANGE above 2^53 - 1 */
export function multiply(where: string, units: number, price: Nanos): Nanos {
  const product = units * price
  assertAmount(where, product)
  return product
}

/** @throws ERR_LEDGER_RANGE above 2^53 - 1 */
export function add(where: string, ...amounts: Nanos[]): Nanos {
  const sum = amounts.reduce((total, amount) => total + amount, 0)
  assertAmount(where, sum)
  return sum
}
