import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { LowRank } from '@graft/sdk/format/operations.ts'
import { type Block, blockTransform, cutBlock } from '../blocks.ts'
import type { AdaptedParameter } from './adapted-parameter.ts'
import { checkFactors, factorShapes, type LoraContext } from './lora-modules.ts'

/**
 * Bases whose files stack experts as [experts, in, out]. transformers marks some of them as transposed since version 5,
 * and PEFT then puts A on the other side, so adapters of both forms exist.
 */
const STACKED_IN_OUT: ReadonlySet<string> = new Set([
  ...['gpt_oss', 'llama4', 'llama4_text', 'qwen3_vl_moe', 'qwen3_vl_moe_text'],
])

/** Bases whose files stack experts as [experts, out, in], as torch's linear layers lie. */
const STACKED_OUT_IN: ReadonlySet<string> = new Set([
  ...[
    'granitemoe',
    'granitemoeshared',
    'granitemoehybrid',
    'jetmoe',
    'mixtral',
    'qwen2_moe',
    'qwen3_moe',
  ],
])

const unsupported = (message: string): never => {
  throw new GraftError('ERR_METHOD_UNSUPPORTED', message)
}

type Form = 'straight' | 'crossed'

/** The forms that a stack [experts, in, out] allows: A on its inputs, or A on what PEFT took for them. */
function formsOf(context: LoraContext, { path, site, name, keys }: AdaptedParameter): Form[] {
  const { a, b } = factorShapes(context, path, [keys.A, keys.B])
  const [, inside, out] = context.sites.shape(`${site}.${name}`)!
  return [
    ...(a[1] === inside && b[0] === out ? (['straight'] as const) : []),
    ...(a[1] === out && b[0] === inside ? (['crossed'] as const) : []),
  ]
}

/** One form holds in a whole file; square experts alone do not tell which. @throws ERR_METHOD_UNSUPPORTED, ERR_TENSOR_SHAPE */
function formOfFile(context: LoraContext, stacks: readonly AdaptedParameter[]): Form {
  const told = new Set<Form>()
  for (const stack of stacks) {
    const forms = formsOf(context, stack)
    const [form] = forms
    if (form === undefined) {
      const { path, name, site, keys } = stack
      const { a, b } = factorShapes(context, path, [keys.A, keys.B])
      throw new GraftError(
        'ERR_TENSOR_SHAPE',
        `${expected(`${path}.${name}: lora_A, lora_B`, `on the two sides of [${context.sites.shape(`${site}.${name}`)}] as in the base`, [a, b])}; the adapter was trained on another base`,
      )
    }
    if (forms.length === 1) told.add(form)
  }
  const [form] = told
  if (told.size === 1 && form !== undefined) return form
  const { path, name } = stacks[0]!
  return unsupported(
    told.size === 0
      ? `${path}.${name}: its experts are square, and adapters of transformers 4 and 5 differ in which side lora_A is on; adapt gate_up_proj too, whose shape tells`
      : `${path}.${name}: some of its parameters have lora_A on their inputs and some on their outputs; save the adapter again with one version of transformers`,
  )
}

/** @throws ERR_METHOD_UNSUPPORTED, ERR_TENSOR_SHAPE */
export function compileStacks(
  context: LoraContext,
  stacks: readonly AdaptedParameter[],
  modelType: string,
): LowRank[] {
  const [first] = stacks
  if (first === undefined) return []
  const inOut = STACKED_IN_OUT.has(modelType)
  if (!inOut && !STACKED_OUT_IN.has(modelType))
    unsupported(
      `${first.path}.${first.name}: how a base of type ${modelType} stores its experts is not known; merge the adapter into the base`,
    )
  const form = inOut ? formOfFile(context, stacks) : 'straight'
  return stacks.map((stack) => compileStack(context, stack, form, inOut))
}

function compileStack(
  context: LoraContext,
  { path, name, site: module, keys }: AdaptedParameter,
  form: Form,
  inOut: boolean,
): LowRank {
  const { collector, sites, settings } = context
  const site = `${module}.${name}`
  const [experts, first, second] = sites.shape(site) as [number, number, number]
  if (experts === 1 && inOut && form === 'straight')
    unsupported(
      `${path}.${name}: PEFT adds the update of a stack of one expert untransposed to a weight that lies transposed; adapt the module with target_modules`,
    )
  const place = inOut ? { in: first, out: second } : { in: second, out: first }
  const { a, b } = factorShapes(context, path, [keys.A, keys.B])
  const rank = settings.rankOf(`${path}.${name}`)
  const ranks = [a[0]! / experts, b[1]! / experts]
  const got = form === 'straight' ? { in: a[1], out: b[0] } : { in: b[0], out: a[1] }
  checkFactors(`${path}.${name}`, rank, { ranks, ...got }, place)
  const add = (key: string, slot: 'lora.A' | 'lora.B', view: number[], axes: number[]): string => {
    const source = collector.peek(key)!
    const block: Block = { view, begin: view.map(() => 0), end: view, axes }
    return collector.add(
      key,
      site,
      slot,
      cutBlock(source, block),
      blockTransform(block, source.shape),
    )
  }
  const scale = settings.scaleOf(`${path}.${name}`, rank)
  const [viewA, viewB] = [
    [experts, rank, a[1]!],
    [b[0]!, rank, experts],
  ] as const
  const slots =
    form === 'straight'
      ? {
          A: collector.take(keys.A!, site, 'lora.A', [...viewA]),
          B: add(keys.B!, 'lora.B', [...viewB], [2, 0, 1]),
        }
      : {
          A: add(keys.B!, 'lora.A', [...viewB], [2, 1, 0]),
          B: add(keys.A!, 'lora.B', [...viewA], [0, 2, 1]),
        }
  return { op: 'low_rank', site, ...place, rank, scale, experts, slots }
}
