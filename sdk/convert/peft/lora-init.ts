import { GraftError } from '@graft/sdk/format/errors.ts'
import type { ConfigReader } from '../config-keys.ts'

/**
 * Initialisations that subtract from the base's weights: the adapter is right only on that changed base. PEFT writes
 * `true` instead of the name when it converts on saving (and doubles rank and alpha), so a name means: not converted.
 */
const CONVERTIBLE = /^(?:pissa(?:_niter_\d+)?|olora|corda|lora_ga)$/
/** Draws A, or takes directions from data or from the base, and leaves the base as it is. */
const KEEPS_BASE = new Set(['gaussian', 'eva', 'orthogonal', 'mica', 'kaiming', 'default'])

const mutated = (message: string): never => {
  throw new GraftError('ERR_BASE_MUTATED', message)
}

const PUBLISH_MERGED =
  'Merge on the base that it was trained on, and publish the result as a base: model.merge_and_unload().save_pretrained("out")'

/** @throws ERR_BASE_MUTATED, ERR_CONFIG_INVALID */
export function checkInit(config: ConfigReader): void {
  const kasa = config.value('kasa_config')
  if (kasa !== null && kasa !== false)
    mutated(
      `kasa_config: KaSA cuts the smallest singular values out of the base's weights. ${PUBLISH_MERGED}`,
    )
  const init = config.value('init_lora_weights')
  if (init === null || typeof init === 'boolean') return
  const name = String(init).toLowerCase()
  if (name === 'loftq')
    mutated(
      `init_lora_weights "loftq" replaces the base's weights by quantised ones and what the adapter corrects of them. ${PUBLISH_MERGED}`,
    )
  if (CONVERTIBLE.test(name)) {
    const patterns = ['rank_pattern', 'alpha_pattern'].some((key) => config.numbers(key).length > 0)
    mutated(
      `init_lora_weights "${name}" takes the initial update out of the base, so the adapter is wrong on the true base. ${
        config.boolean('use_rslora', false) && patterns
          ? `PEFT cannot convert it with use_rslora and patterns. ${PUBLISH_MERGED}`
          : 'Convert it: before training, model.peft_config["default"].init_lora_weights = True; model.save_pretrained("./start"); after it, model.save_pretrained("out", path_initial_model_for_weight_conversion="./start")'
      }`,
    )
  }
  if (!KEEPS_BASE.has(name)) config.fail('init_lora_weights', 'a known initialisation')
}
