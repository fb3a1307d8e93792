import type { BaseSites } from '@graft/sdk/format/base-sites.ts'
import { isDecimal, toDecimal } from '@graft/sdk/format/decimal.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { LowRank, Magnitude } from '@graft/sdk/format/operations.ts'
import type { Collector } from '../compiled.ts'
import type { ModuleKeys } from './keys.ts'

export interface ModuleSource {
  /** As the tool names it, for messages. */
  name: string
  keys: ModuleKeys
  /** The base's module. */
  site: string
  /** alpha / rank, or what the tool makes of it. */
  scaleOf(rank: number): number
}

/** Sizes of the linear layer or of the convolution at a site. */
function layerAt(sites: BaseSites, site: string, name: string) {
  const shape = sites.shape(`${site}.weight`)!
  const linear = sites.linear(site)
  if (linear !== null) return { in: linear.in, out: linear.out, kernel: [] }
  const [out, inside, ...kernel] = shape
  if (out !== undefined && inside !== undefined && kernel.length > 0)
    return { in: inside, out, kernel }
  throw new GraftError(
    'ERR_METHOD_UNSUPPORTED',
    expected(`${name}: base weight ${site}.weight`, 'of a linear layer or a convolution', shape),
  )
}

const same = (a: readonly number[], b: readonly number[]): boolean => a.join() === b.join()
const ones = (kernel: readonly number[]): number[] => kernel.map(() => 1)

/**
 * One LoRA module to one operation. A 1x1 convolution and a linear layer hold the same numbers: bases of one family differ
 * in which of the two they have, and so do their files.
 * @throws ERR_TENSOR_MISSING, ERR_TENSOR_SHAPE, ERR_METHOD_UNSUPPORTED
 */
export function compileModule(
  collector: Collector,
  sites: BaseSites,
  { name, keys, site, scaleOf }: ModuleSource,
): LowRank | Magnitude {
  const { down, up, dora, bias } = keys
  if (down === undefined || up === undefined)
    throw new GraftError(
      'ERR_TENSOR_MISSING',
      `module ${name} has ${down ?? up ?? keys.alpha ?? dora} but no ${down ? 'up' : 'down'} weight`,
    )
  const [rank = 0, inside, ...given] = collector.peek(down)!.shape
  const upShape = collector.peek(up)!.shape
  const layer = layerAt(sites, site, name)
  const pointwise = [...given, ...layer.kernel].every((size) => size === 1)
  const fits = pointwise || same(given, layer.kernel)
  if (rank < 1 || inside !== layer.in || !fits || !same(upShape, [layer.out, rank, ...ones(given)]))
    throw new GraftError(
      'ERR_TENSOR_SHAPE',
      `${expected(
        `module ${name}`,
        `${layer.in} -> ${layer.out}${layer.kernel.length ? ` of kernel ${layer.kernel.join('x')}` : ''} as in the base`,
        `down [${collector.peek(down)!.shape}], up [${upShape}]`,
      )}; the adapter was trained on another base`,
    )
  const scale = toDecimal(scaleOf(rank))
  if (!isDecimal(scale))
    throw new GraftError(
      'ERR_CONFIG_INVALID',
      expected(`module ${name}: alpha`, 'of a usual magnitude', scale),
    )
  const kernel = layer.kernel
  const reshape = !same(given, kernel)
  const A = collector.take(down, site, 'lora.A', reshape ? [rank, inside, ...kernel] : undefined)
  const upWanted = [layer.out, rank, ...ones(kernel)]
  const B = collector.take(up, site, 'lora.B', reshape ? upWanted : undefined)
  const shared = { site, in: layer.in, out: layer.out, rank, scale }
  if (dora !== undefined)
    return {
      op: 'magnitude',
      ...shared,
      slots: { A, B, m: takeMagnitude(collector, dora, site, layer) },
    }
  const Bbias = bias === undefined ? undefined : collector.take(bias, site, 'lora.Bbias')
  return {
    op: 'low_rank',
    ...shared,
    ...(kernel.length > 0 ? { kernel } : {}),
    slots: { A, B, ...(Bbias === undefined ? {} : { Bbias }) },
  }
}

/**
 * LyCORIS and ComfyUI store the wanted norm of each row of W as [out, 1]; older LyCORIS that of each column, [1, in],
 * which is another method.
 */
function takeMagnitude(
  collector: Collector,
  key: string,
  site: string,
  layer: { in: number; out: number; kernel: number[] },
): string {
  const { shape } = collector.peek(key)!
  if (layer.kernel.length > 0)
    throw new GraftError(
      'ERR_METHOD_UNSUPPORTED',
      `tensor ${key} is DoRA on a convolution, which is not supported; merge it into the base, or train the linear layers only`,
    )
  if (shape[0] === layer.out && shape.slice(1).every((size) => size === 1))
    return collector.take(key, site, 'lora.mag', shape.length > 1 ? [layer.out] : undefined)
  throw new GraftError(
    same(shape, [1, layer.in]) ? 'ERR_METHOD_UNSUPPORTED' : 'ERR_TENSOR_SHAPE',
    same(shape, [1, layer.in])
      ? `tensor ${key} [${shape}] scales the columns of the weight (LyCORIS with wd_on_output=False); only magnitudes of its rows, [${layer.out},1], are supported. Merge it into the base, or extract a LoRA`
      : expected(`tensor ${key}`, `[${layer.out},1]`, shape),
  )
}
