import type { BaseSites } from '@graft/sdk/format/base-sites.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Origin } from '@graft/sdk/format/manifest.ts'
import type { Operation } from '@graft/sdk/format/operations.ts'
import type { Tensor } from '@graft/sdk/format/safetensors.ts'

/** What an importer makes of a source: operations, canonical tensors and the way back. */
export interface Compiled {
  family: string
  flags: string[]
  toolVersion: string | null
  operations: Operation[]
  tensors: Map<string, Tensor>
  keyMap: Origin['keyMap']
  /** Source config keys that do not reach inference. */
  inert: string[]
  /** Informative facts of the training, for the manifest. */
  training: Record<string, unknown>
}

/** Collects canonical tensors and remembers which source key each came from. */
export interface Collector {
  readonly tensors: Map<string, Tensor>
  readonly keyMap: Origin['keyMap']
  readonly keys: readonly string[]
  peek(key: string): Tensor | null
  /**
   * Moves a source tensor to `<site>::<slot>` and returns that name. With `shape` the tensor is seen in another
   * shape of as many elements, and the transform remembers the source's.
   * @throws ERR_TENSOR_MISSING
   */
  take(key: string, site: string, slot: string, shape?: number[]): string
  /** A second copy of a tensor already taken, where the source holds one; its bytes must be the same. */
  takeCopy(key: string, name: string): void
  /** Adds a canonical tensor made from part of a source tensor; `transform` says how export puts it back. */
  add(key: string, site: string, slot: string, tensor: Tensor, transform: string): string
  /** @throws ERR_TENSOR_UNMATCHED when a source tensor was not used */
  assertAllTaken(hint: string): void
}

export function createCollector(source: ReadonlyMap<string, Tensor>): Collector {
  const tensors = new Map<string, Tensor>()
  const keyMap: Origin['keyMap'] = []
  const taken = new Set<string>()
  const add = (key: string, site: string, slot: string, tensor: Tensor, transform: string) => {
    const name = `${site}::${slot}`
    if (tensors.has(name))
      throw new GraftError('ERR_TENSOR_UNMATCHED', `${key} and another tensor both mean ${name}`)
    tensors.set(name, tensor)
    keyMap.push({ key, tensor: name, transform })
    taken.add(key)
    return name
  }
  return {
    tensors,
    keyMap,
    keys: [...source.keys()],
    peek: (key) => source.get(key) ?? null,
    take(key, site, slot, shape) {
      const tensor = source.get(key)
      if (tensor === undefined)
        throw new GraftError('ERR_TENSOR_MISSING', `tensor ${key} is absent, ${site} needs it`)
      if (shape === undefined) return add(key, site, slot, tensor, 'identity')
      return add(key, site, slot, { ...tensor, shape }, `shape ${tensor.shape.join(',')}`)
    },
    takeCopy(key, name) {
      const copy = source.get(key)
      if (copy === undefined) return
      const first = tensors.get(name)
      if (first === undefined || copy.data.some((byte, i) => byte !== first.data[i]))
        throw new GraftError('ERR_TENSOR_UNMATCHED', `${key} must hold the same values as ${name}`)
      keyMap.push({ key, tensor: name, transform: 'identity' })
      taken.add(key)
    },
    add,
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
