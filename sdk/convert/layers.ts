import type { BaseSites } from '@graft/sdk/format/base-sites.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'

const BLOCKS = [
  { prefix: 'model.layers', attention: 'self_attn' },
  { prefix: 'transformer.h', attention: 'attn' },
  { prefix: 'h', attention: 'attn' },
]

/** Paths of the base's blocks and of the attention in each, in order. @throws ERR_ARCHITECTURE_UNSUPPORTED */
export function listBlocks(sites: BaseSites): { block: string; attention: string }[] {
  for (const { prefix, attention } of BLOCKS) {
    const blocks: { block: string; attention: string }[] = []
    while (sites.has(`${prefix}.${blocks.length}.${attention}`)) {
      const block = `${prefix}.${blocks.length}`
      blocks.push({ block, attention: `${block}.${attention}` })
    }
    if (blocks.length > 0) return blocks
  }
  throw new GraftError(
    'ERR_ARCHITECTURE_UNSUPPORTED',
    `the base's blocks are not named as ${BLOCKS.map((b) => `${b.prefix}.N.${b.attention}`).join(' or ')}`,
  )
}

const EMBEDDINGS = ['model.embed_tokens', 'transformer.wte', 'wte']

/** Path of the token embedding. @throws ERR_ARCHITECTURE_UNSUPPORTED */
export function embeddingPath(sites: BaseSites): string {
  const path = EMBEDDINGS.find((name) => sites.shape(`${name}.weight`) !== null)
  if (path !== undefined) return path
  throw new GraftError(
    'ERR_ARCHITECTURE_UNSUPPORTED',
    `the base has no token embedding named ${EMBEDDINGS.join(' or ')}`,
  )
}
