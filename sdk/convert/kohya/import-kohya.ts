import { type BaseSites, createBaseSites } from '@graft/sdk/format/base-sites.ts'
import { encodeBase64 } from '@graft/sdk/format/base64url.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { LiteralTensor } from '@graft/sdk/format/manifest.ts'
import type { Operation } from '@graft/sdk/format/operations.ts'
import { openSafetensors } from '@graft/sdk/format/safetensors-source.ts'
import { readTensor } from '@graft/sdk/format/tensor-source.ts'
import { type Collector, type Compiled, createCollector } from '../compiled.ts'
import type { Detected, ImportBase, SourceFiles } from '../source-format.ts'
import { readAlpha } from './alpha.ts'
import { compileModule } from './compile-module.ts'
import { readMetadata } from './diffusers-config.ts'
import { type DiffusersModule, groupDiffusersKeys } from './diffusers-keys.ts'
import { groupKohyaKeys, type ModuleKeys } from './keys.ts'
import { compileLycoris } from './lycoris.ts'
import { createNames, isKohyaKey } from './names.ts'

/** What sd-scripts notes about a training; none of it reaches inference. */
const NOTES = [
  'ss_network_module',
  'ss_network_dim',
  'ss_network_alpha',
  'ss_base_model_version',
  'ss_sd_model_name',
  'ss_output_name',
] as const

type Metadata = Readonly<Record<string, string>>
interface Work {
  collector: Collector
  sites: BaseSites
  literals: LiteralTensor[]
}

/** The number of a `.alpha`, kept as a literal: it is no weight, and export gives it back as it was. */
async function takeAlpha({ collector, literals }: Work, key: string): Promise<number> {
  const tensor = collector.use(key)
  const alpha = await readAlpha(key, tensor)
  const { dtype, shape, data } = await readTensor(tensor)
  literals.push({ key, dtype, shape, data: encodeBase64(data) })
  return alpha
}

/** sd-scripts: an alpha that is absent or 0 is the rank. */
async function kohyaScale(work: Work, keys: ModuleKeys): Promise<(rank: number) => number> {
  const alpha = keys.alpha === undefined ? 0 : await takeAlpha(work, keys.alpha)
  return (rank) => (alpha === 0 ? 1 : alpha / rank)
}

async function compileKohya(work: Work): Promise<{ operations: Operation[]; flags: string[] }> {
  const nameOf = createNames(work.sites)
  const operations: Operation[] = []
  for (const [name, keys] of groupKohyaKeys(work.collector.keys)) {
    const other = Object.values(keys.others)[0]
    const first = other ?? keys.down ?? keys.up ?? keys.alpha ?? keys.dora!
    const site = nameOf(name, first)
    const scaleOf = await kohyaScale(work, keys)
    const compile = other === undefined ? compileModule : compileLycoris
    operations.push(compile(work.collector, work.sites, { name, keys, site, scaleOf }))
  }
  return { operations, flags: [] }
}

const siteOf = (sites: BaseSites, { component, path }: DiffusersModule, key: string): string => {
  const inFolder = component !== '' && sites.has(component)
  const site = inFolder ? `${component}.${path}` : path
  if (sites.shape(`${site}.weight`) !== null) return site
  throw new GraftError(
    'ERR_TENSOR_UNMATCHED',
    `tensor ${key} belongs to module ${site}, which the base does not have; the adapter was trained on another base`,
  )
}

/**
 * Without metadata and alphas diffusers takes the first module's rank for the alpha of all: of a file with several ranks
 * nobody can tell what its author meant.
 */
function refuseUnknownScales(
  { collector }: Work,
  modules: readonly DiffusersModule[],
  configs: ReadonlyMap<string, unknown>,
): void {
  const ranks = new Map<string, number>()
  for (const { component, path, down, alpha } of modules) {
    if (configs.has(component) || alpha !== undefined || down === undefined) continue
    const [rank = 0] = collector.peek(down)!.shape
    const first = ranks.get(component) ?? rank
    if (rank !== first)
      throw new GraftError(
        'ERR_CONFIG_INVALID',
        `${component}.${path} has rank ${rank} and modules before it ${first}, and the file does not say how they are scaled: save it again with diffusers 0.34 or newer (save_lora_weights(..., ${component}_lora_adapter_metadata=...))`,
      )
    ranks.set(component, rank)
  }
}

async function compileDiffusers(
  work: Work,
  metadata: Metadata,
): Promise<{ operations: Operation[]; flags: string[]; inert: string[] }> {
  const modules = groupDiffusersKeys(work.collector.keys)
  const configs = readMetadata(metadata, new Set(modules.map(({ component }) => component)))
  const flags = new Set(['diffusers'])
  refuseUnknownScales(work, modules, configs)
  const operations: Operation[] = []
  for (const module of modules) {
    const { component, path, alpha, dora, bias } = module
    const name = component === '' ? path : `${component}.${path}`
    const first = module.down ?? module.up ?? alpha ?? dora ?? bias!
    const config = configs.get(component)
    if (config !== undefined && (alpha !== undefined || config.dora !== (dora !== undefined)))
      throw new GraftError(
        'ERR_CONFIG_INVALID',
        alpha !== undefined
          ? `${alpha} and the metadata both say how ${name} is scaled; remove one of them`
          : `${name}: use_dora is ${config.dora} and lora_magnitude_vector is ${dora ? 'present' : 'absent'}`,
      )
    if (config?.rsLora) flags.add('rslora')
    if (bias !== undefined) flags.add('lora_bias')
    // Nothing in such a file tells its scale; diffusers takes alpha = rank.
    if (config === undefined && alpha === undefined) flags.add('scale_assumed')
    const scaleOf = config
      ? (rank: number) => config.scaleOf(path, rank)
      : await kohyaScale(work, module)
    const site = siteOf(work.sites, module, first)
    operations.push(
      compileModule(work.collector, work.sites, { name, keys: module, site, scaleOf }),
    )
  }
  return {
    operations,
    flags: [...flags],
    inert: [...new Set([...configs.values()].flatMap(({ inert }) => inert))],
  }
}

function familyOf(operations: readonly Operation[]): string {
  const names = { hadamard: 'loha', kronecker: 'lokr' } as const
  const families = operations.map((op) => {
    if (op.op === 'dense') return names[op.form as keyof typeof names]
    return op.op === 'magnitude' ? 'dora' : 'lora'
  })
  return [...new Set(families)].sort().join('+')
}

/**
 * A LoRA file of Kohya's sd-scripts, of LyCORIS, or of diffusers.
 * @throws ERR_METHOD_UNSUPPORTED naming the method, ERR_TENSOR_*, ERR_CONFIG_*, ERR_SAFETENSORS_INVALID
 */
export async function importKohya(
  { weightsPath }: Detected,
  files: SourceFiles,
  base: ImportBase,
): Promise<Compiled> {
  const { tensors, metadata } = await openSafetensors(files.get(weightsPath)!)
  const collector = createCollector(tensors)
  const sites = createBaseSites(base.tensors, base.identity.modelType)
  const work: Work = { collector, sites, literals: [] }
  const kohya = [...tensors.keys()].some(isKohyaKey)
  const {
    operations,
    flags,
    inert = [],
  } = kohya ? { ...(await compileKohya(work)), inert: [] } : await compileDiffusers(work, metadata)
  collector.assertAllTaken('Every tensor must belong to a LoRA module of this base')
  const notes = NOTES.filter((key) => metadata[key] !== undefined)
  return {
    family: familyOf(operations),
    flags,
    operations,
    tensors: collector.tensors,
    origin: {
      toolVersion: metadata['ss_sd_scripts_commit_hash'] ?? null,
      config: '',
      keyMap: collector.keyMap,
      metadata,
      ...(work.literals.length > 0 ? { literals: work.literals } : {}),
    },
    inert,
    training: Object.fromEntries(notes.map((key) => [key, metadata[key]])),
  }
}
