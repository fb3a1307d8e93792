import { GraftError } from '@graft/sdk/format/errors.ts'
import { flat } from './names.ts'

/** Components whose modules have a prefix of their own, by the folder that a diffusers pipeline keeps them in. */
const FOLDERS: readonly [RegExp, (twoEncoders: boolean) => string][] = [
  [/^(?:unet|transformer)\.(?=.*blocks\.|.*block\.|conv_|time_|proj_)/, () => 'lora_unet_'],
  [/^text_encoder\./, (two) => (two ? 'lora_te1_' : 'lora_te_')],
  [/^text_encoder_2\./, () => 'lora_te2_'],
  [/^text_encoder_3\./, () => 'lora_te3_'],
]

/** Modules that only a denoiser has. */
const DENOISER =
  /^(?:down_blocks|up_blocks|mid_block|transformer_blocks|double_blocks|joint_blocks)\b/

/**
 * Kohya's name of each site: its component's prefix, then the path with "_" for ".". Sites of a base without components are
 * a denoiser's when they look so, else a language model's, which sd-scripts knows as a text encoder.
 * @throws ERR_METHOD_UNSUPPORTED when two sites would share a name
 */
export function kohyaNames(sites: readonly string[]): Map<string, string> {
  const twoEncoders = sites.some((site) => site.startsWith('text_encoder_2.'))
  const denoiser = sites.some((site) => DENOISER.test(site))
  const names = new Map<string, string>()
  const taken = new Map<string, string>()
  for (const site of sites) {
    const folder = FOLDERS.find(([pattern]) => pattern.test(site))
    const path = folder ? site.slice(site.indexOf('.') + 1) : site
    const prefix = folder ? folder[1](twoEncoders) : denoiser ? 'lora_unet_' : 'lora_te_'
    const name = prefix + flat(path)
    const other = taken.get(name)
    if (other !== undefined)
      throw new GraftError(
        'ERR_METHOD_UNSUPPORTED',
        `${other} and ${site} would both be called ${name} in Kohya's format; convert --to peft, which keeps the dots`,
      )
    taken.set(name, site)
    names.set(site, name)
  }
  return names
}
