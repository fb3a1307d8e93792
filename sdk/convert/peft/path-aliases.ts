import type { BaseSites } from '@graft/sdk/format/base-sites.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'

/**
 * PEFT names modules as they stand in memory, files as the class that saved them; transformers has renamed some since.
 * Each row is one such change, as pairs of prefixes: [what the adapter says, what the base's files say]. A path that
 * none of its prefixes fits stays as it is.
 */
const ALIASES: readonly { name: string; prefixes: readonly (readonly [string, string])[] }[] = [
  {
    // transformers >= 4.52 on LLaVA, PaliGemma, Gemma 3, Mllama, InternVL..., whose files keep the older names.
    name: 'vision-language models since 4.52 on files of before',
    prefixes: [
      ['model.language_model.', 'language_model.model.'],
      ['lm_head.', 'language_model.lm_head.'],
      ['model.vision_tower.', 'vision_tower.'],
      ['model.vision_model.', 'vision_model.'],
      ['model.multi_modal_projector.', 'multi_modal_projector.'],
    ],
  },
  {
    name: 'vision-language models before 4.52 on files since',
    prefixes: [
      ['language_model.model.', 'model.language_model.'],
      ['language_model.lm_head.', 'lm_head.'],
      ['vision_tower.', 'model.vision_tower.'],
      ['vision_model.', 'model.vision_model.'],
      ['multi_modal_projector.', 'model.multi_modal_projector.'],
    ],
  },
  {
    // Qwen2-VL, Qwen2.5-VL; and a text-only base under an adapter of the whole model.
    name: 'a language model under `language_model` on files that have it at the top',
    prefixes: [
      ['model.language_model.', 'model.'],
      ['model.visual.', 'visual.'],
    ],
  },
  {
    name: 'a language model at the top on files that have it under `language_model`',
    prefixes: [
      ['model.', 'model.language_model.'],
      ['visual.', 'model.visual.'],
    ],
  },
  {
    name: 'a language model at the top on files of before 4.52',
    prefixes: [
      ['model.', 'language_model.model.'],
      ['lm_head.', 'language_model.lm_head.'],
    ],
  },
  {
    name: 'files of before 4.52 on a language model alone',
    prefixes: [
      ['language_model.model.', 'model.'],
      ['language_model.lm_head.', 'lm_head.'],
    ],
  },
]

/** transformers 5 calls the expert block of Mixtral and MiniMax `mlp`; their files keep `block_sparse_moe`. */
const MOE_BLOCK = /^((?:.+\.)?layers\.\d+)\.mlp\./
const toFileBlock = (path: string): string => path.replace(MOE_BLOCK, '$1.block_sparse_moe.')

const rewrite = (path: string, prefixes: readonly (readonly [string, string])[]): string => {
  const dotted = `${path}.`
  const found = prefixes.find(([from]) => dotted.startsWith(from))
  return found === undefined ? path : (found[1] + dotted.slice(found[0].length)).slice(0, -1)
}

/** What follows a module's path in the keys of PEFT's methods. */
const SLOT =
  /\.(?:base_layer|weight|bias|token_adapter|trainable_tokens_delta|ln_tuning_layers|(?:lora|ia3|vera|hada|lokr|oft|boft|fourierft)_[A-Za-z0-9_]+)$/

/** The path of the module that a key (without its prefix) belongs to. */
export function moduleOf(inner: string): string {
  let path = inner
  while (SLOT.test(path)) path = path.replace(SLOT, '')
  return path
}

/**
 * The sites of a base, resolved by the names that an adapter uses. Where they are not the files' own, one row of the
 * table must explain all of them.
 * @param keys source keys without their prefix
 * @throws ERR_TENSOR_UNMATCHED when two rows explain them and differ
 */
export function withAliases(
  sites: BaseSites,
  keys: Iterable<string>,
): { sites: BaseSites; alias: string | null } {
  const paths = [...new Set([...keys].map(moduleOf))]
  if (paths.every((path) => sites.resolve(path) !== null)) return { sites, alias: null }
  const renames = [
    { name: 'expert blocks of transformers 5', map: toFileBlock },
    ...ALIASES.map(({ name, prefixes }) => ({
      name,
      map: (path: string) => rewrite(path, prefixes),
    })),
  ]
  const fitting = renames.filter(({ map }) => paths.every((path) => sites.has(map(path))))
  const [first] = fitting
  if (first === undefined) return { sites, alias: null }
  const other = fitting.find(({ map }) => paths.some((path) => map(path) !== first.map(path)))
  if (other !== undefined)
    throw new GraftError(
      'ERR_TENSOR_UNMATCHED',
      `the adapter's modules fit this base as ${first.name} and as ${other.name}, which differ; rename its keys to those of the base's files`,
    )
  const resolve = (path: string): string | null => {
    const site = first.map(path)
    return sites.has(site) ? site : null
  }
  return { sites: { ...sites, resolve }, alias: first.name }
}
