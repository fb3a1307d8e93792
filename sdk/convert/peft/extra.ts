import type { BaseSites } from '@graft/sdk/format/base-sites.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { Replace } from '@graft/sdk/format/operations.ts'
import type { Json } from '@graft/sdk/format/strict-json.ts'
import { type Collector, resolveSite } from '../compiled.ts'
import type { ConfigReader } from '../config-keys.ts'
import { embeddingPath } from '../layers.ts'
import { permuteRows } from '../permute-rows.ts'
import { replaceWhole } from '../replace-whole.ts'
import { isSaved } from './targets.ts'

/** A whole tensor instead of the base's, of exactly its shape. @throws ERR_TENSOR_UNMATCHED, ERR_TENSOR_SHAPE */
export function replaceTensor(
  collector: Collector,
  sites: BaseSites,
  key: string,
  path: string,
  param: 'weight' | 'bias',
): Replace {
  const site = resolveSite(sites, path, key)
  return replaceWhole(collector, sites, key, site, param)
}

const TOKEN_ROWS = /^(.+)\.token_adapter\.trainable_tokens_delta$/

/**
 * What PEFT saves beside the method's own tensors: modules_to_save, trained biases and embeddings, token rows.
 * `keys` are source keys without their prefix.
 */
export function compileExtras(
  collector: Collector,
  sites: BaseSites,
  config: ConfigReader,
  keys: ReadonlyMap<string, string>,
  bias: 'none' | 'all' | 'lora_only',
): { operations: Replace[]; flags: string[] } {
  const saved = config.names('modules_to_save') ?? []
  const operations: Replace[] = []
  const flags = new Set<string>()
  // Where other rows were trained at a tied head, PEFT saves them by themselves and ties nothing.
  const headHasRows = [...keys.keys()].some((inner) => {
    const path = TOKEN_ROWS.exec(inner)?.[1]
    return path !== undefined && sites.resolve(path) === sites.tiedHead
  })
  for (const [inner, key] of keys) {
    const rows = TOKEN_ROWS.exec(inner)?.[1]
    if (rows !== undefined) {
      const indices = config.value('trainable_token_indices')
      const own = tokenRows(collector, sites, key, rows, indices)
      operations.push(...(headHasRows ? [own] : withTiedHead(sites, own)))
      flags.add('trainable_tokens')
      continue
    }
    const [, path, param] = /^(.+)\.(weight|bias)$/.exec(inner) ?? []
    if (path === undefined || (param !== 'weight' && param !== 'bias')) continue
    const module = path.endsWith('.base_layer') ? path.slice(0, -'.base_layer'.length) : path
    const isBias = param === 'bias' && bias !== 'none'
    // PEFT adds embeddings by itself when the vocabulary was touched, without a word in the config.
    const isEmbedding = /(?:^|\.)(?:embed_tokens|lm_head)$/.test(module)
    if (!isBias && !isEmbedding && !isSaved(saved, module)) continue
    operations.push(replaceTensor(collector, sites, key, module, param))
    flags.add(isBias ? 'bias' : 'modules_to_save')
  }
  return { operations, flags: [...flags] }
}

/** The same rows of a tied head, which PEFT changes with its embedding and does not save. */
function withTiedHead(sites: BaseSites, op: Replace): Replace[] {
  const head = op.site === embeddingPath(sites) ? sites.tiedHead : null
  return head === null ? [op] : [op, { ...op, site: head }]
}

/** Rows of an embedding instead of the base's (PEFT calls them deltas, and copies them in). */
export function tokenRows(
  collector: Collector,
  sites: BaseSites,
  key: string,
  path: string,
  indices: Json,
): Replace {
  const invalid = (what: string, got: unknown): never => {
    throw new GraftError('ERR_CONFIG_INVALID', expected('token indices', what, got))
  }
  const entry =
    indices !== null && typeof indices === 'object' && !Array.isArray(indices)
      ? Object.entries(indices).find(([name]) => path === name || path.endsWith(`.${name}`))?.[1]
      : indices
  const tokens = Array.isArray(entry) ? entry : invalid(`the rows of ${path}`, entry)
  if (!tokens.every((row): row is number => Number.isSafeInteger(row) && (row as number) >= 0))
    invalid('row numbers', tokens)
  const order = tokens.map((_, i) => i).sort((a, b) => Number(tokens[a]) - Number(tokens[b]))
  const rows = order.map((i) => Number(tokens[i]))
  if (new Set(rows).size !== rows.length) invalid('each row once', tokens)
  const site = resolveSite(sites, path, key)
  const tensor = collector.peek(key)!
  const [, width] = sites.shape(`${site}.weight`) ?? []
  if (tensor.shape.length !== 2 || tensor.shape[0] !== rows.length || tensor.shape[1] !== width)
    throw new GraftError(
      'ERR_TENSOR_SHAPE',
      expected(`tensor ${key}`, `[${rows.length},${width}]`, tensor.shape),
    )
  const sorted = order.every((from, to) => from === to)
  const value = sorted
    ? collector.take(key, site, 'tok.rows')
    : collector.add(key, site, 'tok.rows', permuteRows(tensor, order), `rows ${order.join(',')}`)
  return {
    op: 'replace',
    site,
    param: 'weight',
    shape: tensor.shape,
    rows,
    slots: { value },
  }
}
