import { GraftError } from '@graft/sdk/format/errors.ts'
import type { ConfigReader } from '../config-keys.ts'
import { assertShape, type CompileDense, compileDense, decimalOf } from './dense-modules.ts'
import { compilePythonPattern } from './python-pattern.ts'

/** What an author runs once; PEFT passes over the tensors that it does not know. */
const ADD_INDICES = `from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file, save_file
model, path = AutoPeftModelForCausalLM.from_pretrained(DIR), DIR + "/adapter_model.safetensors"
tensors = load_file(path)
tensors.update({name + ".fourierft_indices": m.indices["default"] for name, m in model.named_modules() if hasattr(m, "fourierft_spectrum")})
save_file(tensors, path, metadata={"format": "pt"})`

/** FourierFT: every module is a sparse spectrum. PEFT saves the values alone; their places must stand beside them. */
export const compileFourierFt: CompileDense = (collector, keys, config, sites) => {
  const countOf = frequencies(config)
  const scaling = config.number('scaling', 150)
  const parts = { '.fourierft_spectrum': 'values', '.fourierft_indices': 'indices' } as const
  const compiled = compileDense([collector, keys, config, sites], parts, (module) => {
    const { path, linear, key } = module
    if (!module.has('indices'))
      throw new GraftError(
        'ERR_METHOD_UNSUPPORTED',
        `${path}: FourierFT without the places of its values: PEFT draws them again with torch.randperm, which another version or tool may not repeat. Store them in the file, with the base at hand (DIR is the adapter's folder):\n${ADD_INDICES}`,
      )
    const n = countOf(path)
    assertShape(module, 'values', [n], 'n_frequency of the config')
    assertShape(module, 'indices', [2, n], 'a row and a column for each value')
    return {
      ...{ op: 'dense', form: 'spectrum', site: linear.path, in: linear.in, out: linear.out },
      frequencies: n,
      scale: decimalOf(config, 'scaling', scaling),
      slots: {
        values: collector.take(key('values'), linear.path, 'fourierft.values'),
        indices: collector.take(key('indices'), linear.path, 'fourierft.indices'),
      },
    }
  })
  return {
    family: 'fourierft',
    ...compiled,
    training: { n_frequency: config.integer('n_frequency', 1, 1000), scaling },
  }
}

/** n_frequency_pattern matches the end of a path after a dot, else the whole path by its name. */
function frequencies(config: ConfigReader): (path: string) => number {
  const fallback = config.integer('n_frequency', 1, 1000)
  const entries = config.numbers('n_frequency_pattern').map(([pattern, value]) => ({
    test: compilePythonPattern(pattern, (body) => `^.*\\.${body}$`),
    pattern,
    value,
  }))
  return (path) =>
    entries.find(({ test, pattern }) => test.test(path) || pattern === path)?.value ?? fallback
}
