import { GraftError } from '@graft/sdk/format/errors.ts'
import type { ModuleKeys } from './keys.ts'

/** Components of a diffusers pipeline that take LoRA. */
const COMPONENT = /^(unet|transformer(?:_2)?|text_encoder(?:_[23])?)\.(.+)$/

type Known = 'down' | 'up' | 'alpha' | 'dora' | 'bias'
/** What each spelling that diffusers has used says: PEFT's, its own two, and dotted Kohya slots. */
const SLOTS: readonly [RegExp, Known][] = [
  [/^(.+)\.lora_A\.weight$/, 'down'],
  [/^(.+)\.lora_B\.weight$/, 'up'],
  [/^(.+)\.lora_B\.bias$/, 'bias'],
  [/^(.+)\.lora_magnitude_vector(?:\.weight)?$/, 'dora'],
  [/^(.+)\.(?:lora|lora_linear_layer)\.down\.weight$/, 'down'],
  [/^(.+)\.(?:lora|lora_linear_layer)\.up\.weight$/, 'up'],
  [/^(.+_lora)\.down\.weight$/, 'down'],
  [/^(.+_lora)\.up\.weight$/, 'up'],
  [/^(.+)\.lora_down\.weight$/, 'down'],
  [/^(.+)\.lora_up\.weight$/, 'up'],
  [/^(.+)\.alpha$/, 'alpha'],
]

export const isDiffusersKey = (key: string): boolean =>
  (COMPONENT.test(key) || /\.processor\./.test(key)) && SLOTS.some(([pattern]) => pattern.test(key))

/** Attention processors of old files carried the projections: `attn1.processor.to_q_lora` is `attn1.to_q`. */
function modulePath(path: string, component: string): string {
  const plain = path.replace('.processor.', '.')
  const projection = /^(.+)\.to_(q|k|v|out)_lora$/.exec(plain)
  if (projection === null) return plain
  const [, attention, which] = projection
  if (component.startsWith('text_encoder')) return `${attention}.${which}_proj`
  return which === 'out' ? `${attention}.to_out.0` : `${attention}.to_${which}`
}

export interface DiffusersModule extends ModuleKeys {
  /** `unet`, or '' in files of attention processors alone. */
  component: string
  /** Module path inside the component. */
  path: string
}

/** @throws ERR_TENSOR_UNMATCHED for a key that is no LoRA slot */
export function groupDiffusersKeys(keys: Iterable<string>): DiffusersModule[] {
  const modules = new Map<string, DiffusersModule>()
  for (const key of keys) {
    const [, component = '', inner = key] = COMPONENT.exec(key) ?? []
    const found = SLOTS.map(([pattern, slot]) => ({ path: pattern.exec(inner)?.[1], slot })).find(
      ({ path }) => path !== undefined,
    )
    if (found?.path === undefined)
      throw new GraftError(
        'ERR_TENSOR_UNMATCHED',
        `tensor ${key} is none of a LoRA's (lora_A, lora_B, lora.down, lora.up, lora_magnitude_vector, alpha)`,
      )
    const path = modulePath(found.path, component)
    const id = `${component}.${path}`
    const module = modules.get(id) ?? { component, path, others: {} }
    if (module[found.slot] !== undefined)
      throw new GraftError(
        'ERR_TENSOR_UNMATCHED',
        `${key} and ${module[found.slot]} both mean the ${found.slot} of ${id}`,
      )
    module[found.slot] = key
    modules.set(id, module)
  }
  return [...modules.values()]
}
