import type { ModelConfig } from '@graft/runner/checkpoint/model-config.ts'

export type Shape = Pick<
  ModelConfig,
  'hidden' | 'intermediate' | 'layers' | 'heads' | 'kvHeads' | 'headDim' | 'vocab'
>

/** The two shapes that figures are stated for: a whole small model, and four layers of a 1B one. */
export const SHAPES = {
  '2048': {
    hidden: 2048,
    layers: 4,
    heads: 32,
    kvHeads: 8,
    headDim: 64,
    intermediate: 8192,
    vocab: 4096,
  },
  '135m': {
    hidden: 576,
    layers: 30,
    heads: 9,
    kvHeads: 3,
    headDim: 64,
    intermediate: 1536,
    vocab: 49_152,
  },
} as const satisfies Record<string, Shape>

export type ShapeName = keyof typeof SHAPES
