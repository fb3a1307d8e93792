import { GraftError } from '@graft/sdk/format/errors.ts'
import type { Manifest } from '@graft/sdk/format/manifest.ts'

/** The attribute under which a class with a head holds the model that files of the inner class name without it. */
const INNER: readonly [RegExp, RegExp, string][] = [
  [/^GPT2|^OpenAIGPT/, /^(?:h|wte|wpe|ln_f)(?:\.|$)/, 'transformer.'],
  [/(?:ForCausalLM|ForSequenceClassification)$/, /^(?:layers|embed_tokens|norm)(?:\.|$)/, 'model.'],
]

const COMPONENT = /^([^.]+)\.(.+)$/

/**
 * PEFT's path of a module, whose names begin at the class that was loaded. Of a diffusers pipeline PEFT knows one component
 * at a time.
 * @throws ERR_METHOD_UNSUPPORTED when the adapter sits on several components
 */
export function peftPaths({ base, operations }: Pick<Manifest, 'base' | 'operations'>) {
  if (base.modelType === 'diffusers') {
    const parts = operations.map(({ site }) => COMPONENT.exec(site)?.[1] ?? '')
    const found = [...new Set(parts)].filter((part) => /^(?:unet|transformer|text_enc)/.test(part))
    if (found.length > 1)
      throw new GraftError(
        'ERR_METHOD_UNSUPPORTED',
        `the adapter sits on ${found.join(' and ')}, and a PEFT adapter on one model: convert --to kohya, which holds all components`,
      )
    const prefix = found.length === 1 ? `${found[0]}.` : ''
    return (site: string): string => site.slice(prefix.length)
  }
  const rules = INNER.filter(([architecture]) => architecture.test(base.architecture))
  return (site: string): string => {
    const rule = rules.find(([, inner]) => inner.test(site))
    return rule ? rule[2] + site : site
  }
}

/** What the paths have to say to a loader: the last names where the base has no others of them, else whole paths. */
export function targetNames(paths: readonly string[], candidates: readonly string[]): string[] {
  const last = (path: string): string => path.slice(path.lastIndexOf('.') + 1)
  const adapted = new Set(paths)
  const short = new Set(paths.map(last))
  const strangers = new Set(candidates.filter((path) => !adapted.has(path)).map(last))
  const names = [...short].filter((name) => !strangers.has(name))
  const rest = paths.filter((path) => strangers.has(last(path)))
  return candidates.length === 0 ? [...paths].sort() : [...names, ...rest].sort()
}
