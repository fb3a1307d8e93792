import type { BaseTensor } from './base-identity.ts'

/** Model families whose linears are Conv1D: their safetensors hold [in, out], the transpose of torch's Linear. */
const CONV1D_MODEL_TYPES: ReadonlySet<string> = new Set(['gpt2', 'openai-gpt'])

export interface LinearSite {
  /** Module path as in the base's safetensors. */
  path: string
  in: number
  out: number
}

/** Answers, from a base's headers alone, what stands at a module path. */
export interface BaseSites {
  /** Shape of a tensor by its name; null when the base has none. A tied `lm_head.weight` answers as the embedding. */
  shape(tensor: string): number[] | null
  /** A two-dimensional weight seen as a linear layer. */
  linear(path: string): LinearSite | null
  /** An embedding seen as a linear layer of one-hot rows: in = vocabulary, out = width. */
  embedding(path: string): LinearSite | null
  /** Some tensor of the base lies under this path. */
  has(path: string): boolean
  /**
   * The path under which the base's files hold a module that a tool calls `path`: tools name modules from
   * their outermost class, files from the class that saved them. Null when none or more than one fits.
   */
  resolve(path: string): string | null
  /** Path of the head that shares the embedding's tensor, null where it has its own. */
  tiedHead: string | null
  /** Paths of all modules that own a tensor, in the order of the files' names. */
  modules: readonly string[]
}

const EMBEDDINGS = ['model.embed_tokens.weight', 'transformer.wte.weight', 'wte.weight']

export function createBaseSites(tensors: readonly BaseTensor[], modelType: string): BaseSites {
  const shapes = new Map(tensors.map(({ name, shape }) => [name, shape]))
  const embedding = EMBEDDINGS.find((name) => shapes.has(name))
  const head = shapes.get('lm_head.weight')
  // A model with tied embeddings saves one of the two; the other is a module all the same.
  const tied = (embedding !== undefined) !== (head !== undefined)
  if (tied && embedding) shapes.set('lm_head.weight', shapes.get(embedding)!)
  if (tied && head) shapes.set(EMBEDDINGS[0]!, head)
  const modules = [...new Set([...shapes.keys()].map((name) => name.replace(/\.[^.]+$/, '')))]
  const prefixes = new Set(
    modules.flatMap((path) => {
      const parts = path.split('.')
      return parts.map((_, i) => parts.slice(0, i + 1).join('.'))
    }),
  )
  const has = (path: string): boolean => prefixes.has(path)
  return {
    modules,
    tiedHead: tied ? 'lm_head' : null,
    has,
    shape: (tensor) => shapes.get(tensor) ?? null,
    linear(path) {
      const shape = shapes.get(`${path}.weight`)
      if (shape?.length !== 2) return null
      const [rows, columns] = shape as [number, number]
      return CONV1D_MODEL_TYPES.has(modelType)
        ? { path, in: rows, out: columns }
        : { path, in: columns, out: rows }
    },
    embedding(path) {
      const weight = `${path}.weight`
      const [rows, columns, ...rest] = shapes.get(weight) ?? []
      if (!EMBEDDINGS.includes(weight) || rest.length > 0) return null
      return rows === undefined || columns === undefined ? null : { path, in: rows, out: columns }
    },
    resolve(path) {
      if (has(path)) return path
      const inner = path.slice(path.indexOf('.') + 1)
      const found = [inner, `model.${path}`, `transformer.${path}`].filter(
        (candidate) => candidate !== path && has(candidate),
      )
      return found.length === 1 ? found[0]! : null
    },
  }
}
