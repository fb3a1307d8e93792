import { type Bench, PEERS } from './bench.ts'
import { compareWithLlama } from './llama-cpp/compare.ts'
import { EIGHT_BITS } from './llama-cpp/eight-bits.ts'
import { FOUR_BITS } from './llama-cpp/four-bits.ts'

/** Against node-llama-cpp, in two classes of weights. */
export const vsLlamaCpp: Bench = {
  about: '16 tenants with 16 adapters against node-llama-cpp with one for all; one request alone',
  needs: PEERS,
  async run(options) {
    const four = await compareWithLlama(FOUR_BITS, options)
    const eight = await compareWithLlama(EIGHT_BITS, options)
    return {
      ...four,
      mixed_16_8bit: eight.mixed_16,
      single_decode_8bit: eight.single_decode,
      single_prefill_8bit: eight.single_prefill,
      eight_bits: eight,
    }
  },
}
