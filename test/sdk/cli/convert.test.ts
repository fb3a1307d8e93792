import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import { sha256 } from '@graft/sdk/format/digest.ts'
import { sameFingerprint } from '@graft/sdk/format/fingerprint.ts'
import { manifestBytes } from '@graft/sdk/format/parse-manifest.ts'
import { readSafetensors, writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { fixtureBase, sourceOf } from '../convert/fixtures.ts'
import { createShell } from './helpers.ts'

const FIXTURES = join(import.meta.dirname, '../convert/fixtures')
const BASE = join(FIXTURES, 'base')
let shell: ReturnType<typeof createShell>

/** A folder with a real save, without what the converter's tests compare with. */
function training(name: string): string {
  const folder = join(shell.folder, name)
  mkdirSync(folder)
  for (const [path, bytes] of sourceOf(name)) writeFileSync(join(folder, path), bytes)
  return name
}

const file = (...parts: string[]): Buffer => readFileSync(join(shell.folder, ...parts))

beforeAll(() => {
  // No registry answers: everything here works from folders and files.
  shell = createShell({ GRAFT_REGISTRY: 'http://127.0.0.1:9' })
})
afterAll(() => shell.clean())

describe('graft convert', () => {
  it('goes from PEFT to Kohya and back without a loss, and says so', async () => {
    training('peft-lora-patterns')
    const args = ['convert', 'peft-lora-patterns', '--base', BASE, '--to', 'kohya', '--json']
    const there = (await shell.graft(args)).json()
    expect(there).toMatchObject({
      from: { format: 'peft', by: 'peft_type in adapter_config.json', toolVersion: '0.21.2' },
      ...{ to: 'kohya', out: 'peft-lora-patterns-kohya', rebuilt: false, lossless: true },
      losses: [],
      files: [
        {
          path: 'lora.safetensors',
          sha256: await sha256(file('peft-lora-patterns-kohya/lora.safetensors')),
        },
      ],
    })
    const single = join('peft-lora-patterns-kohya', 'lora.safetensors')
    const back = await shell.graft([
      'convert',
      single,
      '--base',
      BASE,
      '--to',
      'peft',
      '--out',
      'again',
    ])
    expect([back.exit, back.stdout]).toEqual([
      0,
      expect.stringMatching(/loss +none: the same operations/),
    ])
    expect(readdirSync(join(shell.folder, 'again')).sort()).toEqual([
      'adapter_config.json',
      'adapter_model.safetensors',
    ])
    const [mine, theirs] = [
      file('again/adapter_model.safetensors'),
      file('peft-lora-patterns/adapter_model.safetensors'),
    ]
    expect(Buffer.compare(mine, theirs)).toBe(0)
  })

  it('gives the author his own bytes where the target is his format, and does not overwrite', async () => {
    training('peft-rslora')
    const args = ['convert', 'peft-rslora', '--base', BASE, '--to', 'peft', '--json']
    expect((await shell.graft(args)).json()).toMatchObject({ rebuilt: true, lossless: true })
    for (const name of ['adapter_config.json', 'adapter_model.safetensors'])
      expect(Buffer.compare(file('peft-rslora-peft', name), file('peft-rslora', name))).toBe(0)
    const twice = await shell.graft(args)
    expect([twice.exit, twice.json().error]).toEqual([
      2,
      { code: 'ERR_REQUEST_INVALID', message: expect.stringMatching(/-o, or --force/) },
    ])
    expect((await shell.graft([...args, '--force'])).exit).toBe(0)
  })

  it('tells every loss: per module with --json, alike ones in one line on a terminal', async () => {
    training('peft-lora')
    const args = ['convert', 'peft-lora', '--base', BASE, '--to', 'mlx', '--dtype', 'float16']
    const { losses, lossless } = (await shell.graft([...args, '--json'])).json()
    expect(lossless).toBe(false)
    expect(losses).toContainEqual({
      site: 'model.layers.1.self_attn.q_proj',
      field: 'A',
      what: 'F32 rounded to F16',
      maxAbsError: expect.closeTo(1e-4, 3),
    })
    const piped = await shell.graft([...args, '--out', 'half'])
    expect(
      piped.stdout.match(/^model\.layers\.\d\.\S+ +1 +[AB] +F32 rounded to F16 +\d/gm),
    ).toHaveLength(8)
  })

  it('needs a base it can reach, and names the ways to give one', async () => {
    training('peft-dora')
    const away = await shell.graft(['convert', 'peft-dora', '--base', 'llama', '--to', 'kohya'])
    expect([away.exit, away.stderr]).toEqual([
      8,
      expect.stringMatching(/--base path\/to\/model \(ERR_UNREACHABLE\)/),
    ])
    const usage = await shell.graft(['convert', 'peft-dora', '--to', 'pickle', '--json'])
    expect([usage.exit, usage.json().error.message]).toEqual([
      2,
      expect.stringMatching(/peft, adapters, gguf, mlx, kohya, onnx/),
    ])
    const nothing = await shell.graft(['convert', 'nowhere', '--to', 'peft', '--json'])
    expect([nothing.exit, nothing.json().error.message]).toEqual([
      2,
      expect.stringMatching(/there is no nowhere/),
    ])
    const dora = await shell.graft([
      'convert',
      'peft-dora',
      '--base',
      BASE,
      '--to',
      'gguf',
      '--json',
    ])
    expect([dora.exit, dora.json().error.code]).toEqual([9, 'ERR_METHOD_UNSUPPORTED'])
  })

  it('says what a path is that is no adapter, and where one is', async () => {
    const peft = join(FIXTURES, 'peft-lora')
    mkdirSync(join(shell.folder, 'runs/first'), { recursive: true })
    copyFileSync(
      join(peft, 'adapter_config.json'),
      join(shell.folder, 'runs/first/adapter_config.json'),
    )
    writeFileSync(join(shell.folder, 'runs/README.md'), '# as PEFT writes it above named adapters')
    writeFileSync(
      join(shell.folder, 'pointer'),
      'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n',
    )
    mkdirSync(join(shell.folder, 'cut-off'))
    copyFileSync(
      join(peft, 'adapter_config.json'),
      join(shell.folder, 'cut-off/adapter_config.json'),
    )
    const whole = readFileSync(join(peft, 'adapter_model.safetensors'))
    writeFileSync(join(shell.folder, 'cut-off/adapter_model.safetensors'), whole.subarray(0, 40))
    const cases: [string, string, RegExp][] = [
      [
        join(peft, 'adapter_model.safetensors'),
        'ERR_SOURCE_UNKNOWN',
        /holds PEFT's tensors without adapter_config\.json.*folder/,
      ],
      [
        join(BASE, 'model.safetensors'),
        'ERR_SOURCE_UNKNOWN',
        /tensors are of no adapter \(lm_head\.weight/,
      ],
      ['pointer', 'ERR_SOURCE_UNKNOWN', /Git LFS pointer.*git lfs pull/],
      [
        'cut-off',
        'ERR_SAFETENSORS_INVALID',
        /^adapter_model\.safetensors: header length must .* got 1000; download/,
      ],
      ['runs', 'ERR_REQUEST_INVALID', /holds no adapter; there is runs\/first: give one of them/],
    ]
    for (const [path, code, message] of cases) {
      const ran = await shell.graft(['inspect', path, '--base', BASE, '--json'])
      expect([path, ran.json().error]).toEqual([
        path,
        { code, message: expect.stringMatching(message) },
      ])
    }
  })

  it("takes a base's record and config apart, as a registry has them, and a GGUF file by itself", async () => {
    const { digest, identity, tensors } = await fixtureBase()
    writeFileSync(join(shell.folder, 'record.json'), JSON.stringify({ digest, identity, tensors }))
    training('peft-ia3')
    const record = ['--base', './record.json', '--base-config', join(BASE, 'config.json')]
    const made = await shell.graft(['convert', 'peft-lora', ...record, '--to', 'gguf', '--json'])
    expect(made.json()).toMatchObject({
      to: 'gguf',
      lossless: true,
      files: [{ path: 'adapter.gguf' }],
    })
    const seen = (
      await shell.graft(['inspect', 'peft-lora-gguf/adapter.gguf', ...record, '--json'])
    ).json()
    expect(seen.detected).toEqual({
      format: 'gguf',
      tool: expect.any(String),
      by: 'the magic number of adapter.gguf',
    })
    const first = (await shell.graft(['inspect', 'peft-lora', '--base', BASE, '--json'])).json()
    expect(sameFingerprint(first.proofs.fingerprint, seen.proofs.fingerprint)).toBe(true)
  })
})

describe('graft inspect', () => {
  it('shows every module with its scale and norm, and every tensor when asked', async () => {
    training('peft-modules-to-save')
    const args = ['inspect', 'peft-modules-to-save', '--base', BASE]
    const plain = await shell.graft(args)
    expect(plain.exit).toBe(0)
    expect(plain.stdout).toMatch(/^format +PEFT 0\.21\.2, by peft_type in adapter_config\.json$/m)
    expect(plain.stdout).toMatch(
      /^fits +compatible: every tensor has its place in it \(its folder does not say/m,
    )
    expect(plain.stdout).toMatch(
      /^model\.layers\.0\.self_attn\.v_proj +low_rank +4 +2 +\d\.\d+ +yes$/m,
    )
    expect(plain.stdout).toMatch(/^lm_head +replace weight +- +- +- +yes$/m)
    expect(plain.stderr).toContain('--tensors')
    const { proofs } = (await shell.graft([...args, '--json'])).json()
    expect(proofs.matches).toContainEqual({
      key: 'base_model.model.lm_head.weight',
      tensor: 'lm_head::full.w',
      ...{ site: 'lm_head', op: 'replace', slot: 'value' },
    })
    const all = await shell.graft([...args, '--tensors'])
    expect(all.stdout.match(/^base_model\.model\.\S+ +\S+ +\S+ +\S+$/gm)).toHaveLength(
      proofs.matches.length,
    )
  })

  it('holds a pulled adapter against other bases: its own, one of other bytes, one that lacks a module', async () => {
    const base = await fixtureBase()
    const files = sourceOf('peft-lora')
    const { manifest, safetensors } = await importAdapter({
      files,
      base,
      name: '@acme/sql',
      version: '1.0.0',
    })
    const folder = join(shell.folder, 'pulled')
    mkdirSync(folder)
    writeFileSync(join(folder, 'adapter.json'), manifestBytes(manifest))
    writeFileSync(join(folder, 'adapter.safetensors'), safetensors)
    const fit = async (name: string) =>
      (await shell.graft(['inspect', 'pulled', '--base', name, '--json'])).json().compatibility
    expect(await fit(BASE)).toEqual({ status: 'compatible', reasons: [] })
    const args = ['convert', './pulled/', '--to', 'kohya', '--json']
    expect((await shell.graft(args)).json()).toMatchObject({
      out: 'pulled-kohya',
      from: { format: 'graft' },
    })
    // A fine-tune: the same shapes, other numbers.
    const { tensors, metadata } = readSafetensors(readFileSync(join(BASE, 'model.safetensors')))
    const model = (name: string, weights: typeof tensors) => {
      mkdirSync(join(shell.folder, name))
      copyFileSync(join(BASE, 'config.json'), join(shell.folder, name, 'config.json'))
      writeFileSync(
        join(shell.folder, name, 'model.safetensors'),
        writeSafetensors(weights, metadata),
      )
    }
    const norm = tensors.get('model.norm.weight')!
    model(
      'tuned',
      new Map([...tensors, ['model.norm.weight', { ...norm, data: norm.data.map((b) => b ^ 1) }]]),
    )
    expect(await fit('./tuned')).toMatchObject({
      status: 'shape-only',
      reasons: [{ what: 'the weight files hold other bytes' }],
    })
    const less = [...tensors].filter(([name]) => !name.startsWith('model.layers.1.mlp.down_proj'))
    model('shallow', new Map(less))
    const failing = await fit('shallow')
    expect(failing.status).toBe('incompatible')
    expect(failing.reasons[0]).toMatchObject({
      site: 'model.layers.1.mlp.down_proj',
      code: 'ERR_TENSOR_UNMATCHED',
    })
    const shown = await shell.graft(['inspect', 'pulled', '--base', 'shallow'])
    expect(shown.stdout).toMatch(
      /^fits +incompatible: low_rank at model\.layers\.1\.mlp\.down_proj names/m,
    )
  })

  it('knows a pipeline of diffusers by its components', async () => {
    const kohya = join(FIXTURES, '../kohya/fixtures')
    const { tensors, metadata } = readSafetensors(
      readFileSync(join(kohya, 'kohya-sd/last.safetensors')),
    )
    const pipeline = join(shell.folder, 'pipeline')
    const header = JSON.parse(
      readFileSync(join(kohya, 'base-pipeline/header.bin')).subarray(8).toString(),
    )
    for (const part of ['unet', 'text_encoder']) {
      mkdirSync(join(pipeline, part), { recursive: true })
      const own = Object.entries<{
        dtype: string
        shape: number[]
        data_offsets: [number, number]
      }>(header)
        .filter(([name]) => name.startsWith(`${part}.`))
        .map(
          ([
            name,
            {
              dtype,
              shape,
              data_offsets: [begin, end],
            },
          ]) =>
            [
              name.slice(part.length + 1),
              { dtype, shape, data: new Uint8Array(end - begin) },
            ] as const,
        )
      const name = part === 'unet' ? 'diffusion_pytorch_model.safetensors' : 'model.safetensors'
      writeFileSync(join(pipeline, part, name), writeSafetensors(new Map(own)))
    }
    writeFileSync(join(pipeline, 'model_index.json'), '{"_class_name": "StableDiffusionPipeline"}')
    writeFileSync(join(shell.folder, 'any.name'), writeSafetensors(tensors, metadata))
    const seen = (
      await shell.graft(['inspect', 'any.name', '--base', './pipeline', '--json'])
    ).json()
    expect(seen.detected).toMatchObject({ format: 'kohya', by: 'the tensor names in any.name' })
    expect(seen.manifest.base).toMatchObject({
      architecture: 'StableDiffusionPipeline',
      modelType: 'diffusers',
    })
    expect(seen.proofs.sites).toHaveLength(85)
  })
})

const SCRIPT = existsSync('/usr/bin/script')
it.skipIf(!SCRIPT)('keeps to the width of a terminal of 80 columns', async () => {
  const main = join(import.meta.dirname, '../../../sdk/cli/main.ts')
  const run = (args: string) =>
    shell.exec(
      '/usr/bin/script',
      ['-qec', `stty cols 80; ${process.execPath} ${main} -q ${args}`, '/dev/null'],
      {
        extra: { TERM: 'xterm' },
      },
    )
  const seen = await run(`inspect peft-lora --tensors --base ${BASE}`)
  const converted = await run(
    `convert peft-lora --base ${BASE} --to mlx --dtype bfloat16 --out narrow`,
  )
  for (const { stdout } of [seen, converted]) {
    const lines = stdout.replaceAll('\r', '').split('\n')
    expect(lines.filter((line) => line.length > 80)).toEqual([])
    expect(lines.length).toBeGreaterThan(6)
  }
  expect(converted.stdout).toMatch(/model\.layers\S* +4 +A +F32 rounded to BF16 +\d/)
})
