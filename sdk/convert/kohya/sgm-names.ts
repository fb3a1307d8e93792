/**
 * Kohya trains SDXL on Stability's own UNet, whose modules have other names than diffusers' (`input_blocks.4.1` for
 * `down_blocks.1.attentions.0`). The numbers follow from how many residual blocks each level has.
 */

const WHOLE: Record<string, string> = {
  conv_in: 'input_blocks.0.0',
  conv_out: 'out.2',
  'time_embedding.linear_1': 'time_embed.0',
  'time_embedding.linear_2': 'time_embed.2',
  'add_embedding.linear_1': 'label_emb.0.0',
  'add_embedding.linear_2': 'label_emb.0.2',
}

const IN_RESNET: Record<string, string> = {
  conv1: 'in_layers.2',
  conv2: 'out_layers.3',
  time_emb_proj: 'emb_layers.1',
  conv_shortcut: 'skip_connection',
}

const join = (...parts: (string | number)[]): string => parts.join('.')

/** Stability's name of a diffusers UNet module, null where it has none. `perLevel`: residual blocks of a down level. */
export function sgmName(
  path: string,
  perLevel: number,
  has: (path: string) => boolean,
): string | null {
  if (Object.hasOwn(WHOLE, path)) return WHOLE[path]!
  const [, way, level, kind, index, rest = ''] =
    /^(down|up|mid)_blocks?(?:\.(\d+))?\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)$/.exec(
      path,
    ) ?? []
  if (way === undefined) return null
  const [b, i] = [Number(level ?? 0), Number(index)]
  const inner = kind === 'resnets' ? IN_RESNET[rest] : rest
  if (inner === undefined) return null
  const place = kind === 'resnets' ? 0 : 1
  if (way === 'mid') return join('middle_block', kind === 'attentions' ? 1 : i * 2, inner)
  if (way === 'down') {
    if (kind === 'downsamplers') return join('input_blocks', (b + 1) * (perLevel + 1), 0, 'op')
    return join('input_blocks', 1 + b * (perLevel + 1) + i, place, inner)
  }
  const first = b * (perLevel + 1)
  if (kind === 'upsamplers') {
    const after = has(`up_blocks.${b}.attentions`) ? 2 : 1
    return join('output_blocks', first + perLevel, after, inner)
  }
  return join('output_blocks', first + i, place, inner)
}
