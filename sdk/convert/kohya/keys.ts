import { GraftError } from '@graft/sdk/format/errors.ts'

/** Source keys of one module. */
export interface ModuleKeys {
  /** [rank, in, ...kernel] */
  down?: string
  /** [out, rank, 1...] */
  up?: string
  alpha?: string
  /** DoRA's magnitudes, [out, 1]. */
  dora?: string
  bias?: string
  /** LoHa's and LoKr's by their own names: `hada_w1_a`. */
  others: Record<string, string>
}

const SLOTS: Record<string, 'down' | 'up' | 'alpha' | 'dora' | 'bias'> = {
  'lora_down.weight': 'down',
  'lora_up.weight': 'up',
  alpha: 'alpha',
  dora_scale: 'dora',
}

/** Slots of LyCORIS' other methods, each named as its users know it. */
const OTHERS: readonly [RegExp, string][] = [
  [/^lora_mid\.weight$/, 'CP/Tucker decomposition of a convolution (lora_mid)'],
  [/^hada_t[12]$/, 'LoHa with Tucker decomposition (hada_t1, hada_t2)'],
  [/^lokr_t2$/, 'LoKr with Tucker decomposition (lokr_t2)'],
  [/^(?:oft_blocks|oft_diag|rescale)$/, 'diag-OFT'],
  [/^boft/, 'BOFT of LyCORIS'],
  [/^(?:diff|diff_b)$/, 'full differences (diff, diff_b)'],
  [/^(?:w_norm|b_norm)$/, 'trained norms (w_norm, b_norm)'],
  [/^[ab][12]\.weight$/, 'GLoRA'],
  [/^on_input$/, 'IA3 of LyCORIS'],
  [/^bundle_emb/, 'a bundled embedding'],
]

const PLAIN_OTHERS = /^(?:hada_w[12]_[ab]|lokr_w[12](?:_[ab])?)$/

export const refuseMethod = (key: string, method: string): never => {
  throw new GraftError(
    'ERR_METHOD_UNSUPPORTED',
    `tensor ${key} is of ${method}, which has no operation here. Merge it into the base, or extract a LoRA from it (LyCORIS: extract_locon.py) and convert that`,
  )
}

/** `lora_unet_mid_block_x.lora_up.weight` to its module and slot: a module's name holds no dot. */
export function groupKohyaKeys(keys: Iterable<string>): Map<string, ModuleKeys> {
  const modules = new Map<string, ModuleKeys>()
  for (const key of keys) {
    const dot = key.indexOf('.')
    const [name, slot] = dot < 0 ? [key, ''] : [key.slice(0, dot), key.slice(dot + 1)]
    const module = modules.get(name) ?? { others: {} }
    modules.set(name, module)
    const known = Object.hasOwn(SLOTS, slot) ? SLOTS[slot] : undefined
    if (known !== undefined) module[known] = key
    else if (PLAIN_OTHERS.test(slot)) module.others[slot] = key
    else {
      const method = OTHERS.find(([pattern]) => pattern.test(slot))?.[1]
      refuseMethod(key, method ?? (slot === '' ? 'no module' : `the unknown slot "${slot}"`))
    }
  }
  return modules
}
