import type { BaseSites } from '@graft/sdk/format/base-sites.ts'
import { sameBytes } from '@graft/sdk/format/byte-source.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { KeyRow, Origin } from '@graft/sdk/format/manifest.ts'
import type { Operation } from '@graft/sdk/format/operations.ts'
import { reshaped, type TensorSource } from '@graft/sdk/format/tensor-source.ts'

/** What an importer makes of a source: operations, canonical tensors and the way back. */
export interface Compiled {
  family: string
  flags: string[]
  operations: Operation[]
  tensors: Map<string, TensorSource>
  origin: Omit<Origin, 'format'>
  /** Source config keys that do not reach inference. */
  inert: string[]
  /** Informative facts of the training, for the manifest. */
  training: Record<string, unknown>
}

/** The part of it that the method's own compiler makes. */
export type CompiledPart = Pick<Compiled, 'family' | 'flags' | 'operations' | 'training'>

/** Collects canonical tensors and remembers which source key each came from. */
export interface Collector {
  readonly tensors: Map<string, TensorSource>
  readonly keyMap: KeyRow[]
  readonly keys: readonly string[]
  peek(key: string): TensorSource | null
  /**
   * Moves a source tensor to `<site>::<slot>` and returns that name. With `shape` the tensor is seen in another
   * shape of as many elements, and the transform remembers the source's.
   * @throws ERR_TENSOR_MISSING
   */
  take(key: string, site: string, slot: string, shape?: number[]): string
  /** A second copy of a tensor already taken, where the source holds one; its bytes must be the same. */
  takeCopy(key: string, name: string): Promise<void>
  /** Adds a canonical tensor made from part of a source tensor; `transform` says how export puts it back. */
  add(key: string, site: string, slot: string, tensor: TensorSource, transform: string): string
  /** Adds a canonical tensor that other rows of the key map already lead back to the source. */
  derive(site: string, slot: string, tensor: TensorSource): string
  /** Counts a source tensor as read although it becomes no canonical one (a literal of the origin). */
  use(key: string): TensorSource
  /** @throws ERR_TENSOR_UNMATCHED when a source tensor was not used */
  assertAllTaken(hint: string): void
}

/** @param file source file of the key map's rows, where the tool wrote more than one */
export function createCollector(
  source: ReadonlyMap<string, TensorSource>,
  file?: string,
): Collector {
  const tensors = new Map<string, TensorSource>()
  const keyMap: KeyRow[] = []
  const taken = new Set<string>()
  const row = (key: string, tensor: string, transform: string): KeyRow =>
    file === undefined ? { key, tensor, transform } : { key, tensor, transform, file }
  const derive = (site: string, slot: string, tensor: TensorSource, key = 'it'): string => {
    const name = `${site}::${slot}`
    if (tensors.has(name))
      throw new GraftError('ERR_TENSOR_UNMATCHED', `${key} and another tensor both mean ${name}`)
    tensors.set(name, tensor)
    return name
  }
  const add: Collector['add'] = (key, site, slot, tensor, transform) => {
    const name = derive(site, slot, tensor, key)
    keyMap.push(row(key, name, transform))
    taken.add(key)
    return name
  }
  const need = (key: string, who: string): TensorSource => {
    const tensor = source.get(key)
    if (tensor !== undefined) return tensor
    throw new GraftError('ERR_TENSOR_MISSING', `tensor ${key} is absent, ${who} needs it`)
  }
  return {
    tensors,
    keyMap,
    keys: [...source.keys()],
    peek: (key) => source.get(key) ?? null,
    take(key, site, slot, shape) {
      const tensor = need(key, site)
      if (shape === undefined) return add(key, site, slot, tensor, 'identity')
      return add(key, site, slot, reshaped(tensor, shape), `shape ${tensor.shape.join(',')}`)
    },
    async takeCopy(key, name) {
      const copy = source.get(key)
      if (copy === undefined) return
      const first = tensors.get(name)
      if (first === undefined || !(await sameBytes(copy.data, first.data)))
        throw new GraftError('ERR_TENSOR_UNMATCHED', `${key} must hold the same values as ${name}`)
      keyMap.push(row(key, name, 'identity'))
      taken.add(key)
    },
    add,
    derive: (site, slot, tensor) => derive(site, slot, tensor),
    use(key) {
      taken.add(key)
      return need(key, 'the adapter')
    },
    assertAllTaken(hint) {
      const rest = [...source.keys()].filter((key) => !taken.has(key))
      if (rest.length > 0)
        throw new GraftError(
          'ERR_TENSOR_UNMATCHED',
          `${rest.length} of ${source.size} tensors match nothing in the base, first ${rest[0]}. ${hint}`,
        )
    },
  }
}

/** The base's path of a module that the tool calls `path`. @throws ERR_TENSOR_UNMATCHED */
export function resolveSite(sites: BaseSites, path: string, key: string): string {
  const site = sites.resolve(path)
  if (site !== null) return site
  throw new GraftError(
    'ERR_TENSOR_UNMATCHED',
    `tensor ${key} belongs to module ${path}, which the base does not have; the adapter was trained on another base`,
  )
}
