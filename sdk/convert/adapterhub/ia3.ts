import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Scale } from '@graft/sdk/format/operations.ts'
import { spreadTransform, spreadVector } from '../spread.ts'
import type { LoraSettings } from './lora.ts'
import { expectShape, linearAt } from './shapes.ts'
import type { Place } from './targets.ts'
import type { Work } from './work.ts'

/** IA3: lora_B [out, 1] multiplies the layer's output, bias and all. */
export function compileIa3(
  work: Work,
  places: readonly Place[],
  { r, alpha }: LoraSettings,
): Scale[] {
  if (r !== 1 || alpha !== 1)
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `composition_mode "scale" multiplies outputs by lora_B times alpha; r and alpha must be 1 (r is ${r}, alpha ${alpha}). Multiply the tensors by alpha and save them with alpha=1`,
    )
  return places.map(({ layer, target: { path, spread: parts } }) => {
    const site = `${work.blocks[layer]}.${path}`
    const { out: size } = linearAt(work, site)
    const key = work.keyIn(layer, `${path}.loras.${work.name}.lora_B`)
    const rows = parts ? (size / parts.of) * parts.places.length : size
    expectShape(work, key, [rows, 1])
    const source = parts === null ? null : work.collector.peek(key)
    const l =
      source === null || parts === null
        ? work.collector.take(key, site, 'ia3.l', [size])
        : work.collector.add(
            key,
            site,
            'ia3.l',
            spreadVector(source, parts),
            spreadTransform(parts),
          )
    return { op: 'scale', site, side: 'output', size, slots: { l } }
  })
}
