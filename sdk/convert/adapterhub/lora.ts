import { toDecimal } from '@graft/sdk/format/decimal.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { LowRank, Magnitude, Operation } from '@graft/sdk/format/operations.ts'
import type { CompiledPart } from '../compiled.ts'
import type { ConfigReader } from '../config-keys.ts'
import { spreadMatrix, spreadTransform } from '../spread.ts'
import { compileIa3 } from './ia3.ts'
import { expectShape, linearAt } from './shapes.ts'
import { loraTargets, type Target } from './targets.ts'
import { compileVera } from './vera.ts'
import { adaptedLayers, type Work } from './work.ts'

export interface LoraSettings {
  r: number
  alpha: number
  dora: boolean
}

const refuse = (message: string): never => {
  throw new GraftError('ERR_METHOD_UNSUPPORTED', message)
}

function compileModule(
  work: Work,
  layer: number,
  { path, spread: parts }: Target,
  { r, alpha, dora }: LoraSettings,
): LowRank | Magnitude {
  const { collector, blocks, name, sites } = work
  const site = `${blocks[layer]}.${path}`
  const linear = linearAt(work, site)
  const [count, share] = parts ? [parts.places.length, parts.of] : [1, 1]
  const rank = r * count
  const keyOf = (part: string) => work.keyIn(layer, `${path}.loras.${name}.${part}`)
  const [a, b] = [keyOf('lora_A'), keyOf('lora_B')]
  expectShape(work, a, [rank, linear.in])
  expectShape(work, b, [(linear.out / share) * count, r])
  const source = parts === null ? null : collector.peek(b)
  const shared = {
    site,
    in: linear.in,
    out: linear.out,
    rank,
    scale: toDecimal(alpha / r),
  }
  const A = collector.take(a, site, 'lora.A')
  const B =
    source === null || parts === null
      ? collector.take(b, site, 'lora.B')
      : collector.add(b, site, 'lora.B', spreadMatrix(source, parts), spreadTransform(parts))
  if (!dora) return { op: 'low_rank', ...shared, slots: { A, B } }
  if (alpha !== r)
    refuse(
      `${site}: the library takes DoRA's norm of W + B A and adds alpha / r times B A, so only alpha = r is DoRA; alpha is ${alpha} and r is ${r}. Train with PEFT, or with alpha=r`,
    )
  if (sites.shape(`${site}.bias`) !== null)
    refuse(
      `${site}: the library multiplies the layer's bias by DoRA's factor too, which no operation does. Train with PEFT, or on a base without biases`,
    )
  expectShape(work, keyOf('m.weight'), [linear.out, 1])
  const m = collector.take(keyOf('m.weight'), site, 'lora.mag', [linear.out])
  return { op: 'magnitude', ...shared, slots: { A, B, m } }
}

/** LoRA, DoRA, VeRA and (composition "scale") IA3: one architecture there. */
export async function compileLora(
  work: Work,
  config: ConfigReader,
  faultyScale: boolean,
): Promise<CompiledPart> {
  const r = config.integer('r', 1, 8)
  const written = config.number('alpha', 8)
  const alpha = faultyScale ? r : written
  const mode = config.text('composition_mode', 'add')
  const dora = config.boolean('use_dora', false)
  const vera = config.value('vera_d') !== null || config.value('vera_b') !== null
  if (mode !== 'add' && mode !== 'scale') return config.fail('composition_mode', '"add" or "scale"')
  if (dora && (vera || work.family.conv1d))
    return refuse(
      vera
        ? 'use_dora with vera_d or vera_b (DVoRA) is not supported; train with PEFT'
        : 'use_dora on a base of Conv1D layers: the library takes the norms along the wrong axis there. Train with PEFT',
    )
  const layers = adaptedLayers(work, config)
  const targets = loraTargets(work.family, config)
  const training = { r, alpha: written, dropout: config.number('dropout', 0) }
  const places = layers.flatMap((layer) => targets.map((target) => ({ layer, target })))
  const part = (family: string, operations: Operation[], flags: string[] = []): CompiledPart => {
    return { family, flags, operations, training }
  }
  const settings = { r, alpha, dora }
  if (mode === 'scale') return part('ia3', compileIa3(work, places, settings))
  if (vera) return part('vera', await compileVera(work, places, settings))
  return part(
    'lora',
    places.map(({ layer, target }) => compileModule(work, layer, target, settings)),
    dora ? ['dora'] : [],
  )
}
