import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { exportAdapter } from '@graft/convert/export-adapter.ts'
import { importAdapter } from '@graft/convert/import-adapter.ts'
import type { BaseDescription } from '@graft/sdk/format/base-identity.ts'
import { deltaNorm } from '@graft/sdk/format/delta-norm.ts'
import { toNumbers } from '@graft/sdk/format/indices.ts'
import type { Dense, Operation } from '@graft/sdk/format/operations.ts'
import { readSafetensors, type Tensor, writeSafetensors } from '@graft/sdk/format/safetensors.ts'
import { verifyAdapter } from '@graft/sdk/format/verify-adapter.ts'
import { beforeAll, describe, expect, it } from 'vitest'
import { baseAt, readFolder, withConfig } from '../fixtures.ts'

/** Saved by PEFT 0.21.2, `old-` by 0.17.1: dense/make.py. */
const FIXTURES = join(import.meta.dirname, 'dense/fixtures')
const NAMES = readdirSync(FIXTURES).filter((name) => !/^(base|goldens.*)$/.test(name))
const { norms: NORMS } = JSON.parse(readFileSync(join(FIXTURES, 'goldens.json'), 'utf8')) as {
  norms: Record<string, Record<string, number>>
}
const Q = 'model.layers.0.self_attn.q_proj'
const DOWN = 'model.layers.1.mlp.down_proj'

let base: BaseDescription
beforeAll(async () => {
  base = await baseAt(join(FIXTURES, 'base'), 'base')
})

type Files = Map<string, Uint8Array>
const importDense = (name: string, edit: (files: Files) => void = () => {}) => {
  const files = readFolder(join(FIXTURES, name))
  edit(files)
  return importAdapter({ files, base, name: '@peft/dense', version: '1.0.0' })
}

/** Changes tensors of the safetensors file, by key without PEFT's prefix. */
const withTensors = (edit: (tensors: Map<string, Tensor>) => void) => (files: Files) => {
  const path = 'adapter_model.safetensors'
  const { tensors, metadata } = readSafetensors(files.get(path)!)
  const short = new Map(
    [...tensors].map(([key, tensor]) => [key.replace('base_model.model.', ''), tensor]),
  )
  edit(short)
  const long = new Map([...short].map(([key, tensor]) => [`base_model.model.${key}`, tensor]))
  files.set(path, writeSafetensors(long, metadata))
}

const tensor = (shape: number[], fill = 0): Tensor => {
  const values = new Float32Array(shape.reduce((n, dim) => n * dim, 1)).fill(fill)
  return { dtype: 'F32', shape, data: new Uint8Array(values.buffer) }
}
const rename = (from: RegExp, to: string) =>
  withTensors((tensors) => {
    for (const [key, value] of [...tensors]) {
      tensors.delete(key)
      tensors.set(key.replace(from, to), value)
    }
  })
const setShape = (key: string, shape: number[]) =>
  withTensors((tensors) => tensors.set(key, tensor(shape, 0.5)))
/** Writes I64 places. */
const setIndices = (change: (places: BigInt64Array) => void) =>
  withTensors((tensors) => {
    const { data } = tensors.get(`${Q}.fourierft_indices`)!
    const copy = data.slice()
    change(new BigInt64Array(copy.buffer))
    tensors.set(`${Q}.fourierft_indices`, { dtype: 'I64', shape: [2, 40], data: copy })
  })

describe('dense types of PEFT', () => {
  it.each(NAMES)('%s comes back byte for byte', async (name) => {
    const source = readFolder(join(FIXTURES, name))
    const { manifest, safetensors, report } = await importDense(name)
    expect(report.byteExact).toBe(true)
    await verifyAdapter(manifest, safetensors, base.tensors)
    const exported = await exportAdapter({ manifest, safetensors })
    expect([...exported.keys()].sort()).toEqual([...source.keys()].sort())
    for (const [path, bytes] of exported) expect(bytes, path).toEqual(source.get(path))
  })

  it('holds every tensor as the author’s bytes', async () => {
    for (const name of NAMES) {
      const source = readSafetensors(
        readFolder(join(FIXTURES, name)).get('adapter_model.safetensors')!,
      )
      const { manifest, safetensors } = await importDense(name)
      const { tensors } = readSafetensors(safetensors)
      for (const { key, tensor } of manifest.origin!.keyMap)
        expect(tensors.get(tensor)!.data, key).toEqual(source.tensors.get(key)!.data)
    }
  })

  it.each<[string, string, Partial<Dense>]>([
    ['loha', Q, { form: 'hadamard', rank: 3, scale: '1.6666666666666667' }],
    ['loha-patterns', DOWN, { form: 'hadamard', rank: 6, scale: '0.6666666666666666' }],
    ['loha-patterns', 'model.layers.1.self_attn.q_proj', { form: 'hadamard', rank: 2, scale: '2' }],
    [
      'loha-patterns',
      'model.layers.0.self_attn.v_proj',
      { form: 'hadamard', rank: 5, scale: '1.8' },
    ],
    ['lokr', Q, { form: 'kronecker', scale: '1.5', shape1: [4, 4], shape2: [8, 8], rank2: 2 }],
    [
      'lokr-both',
      DOWN,
      { form: 'kronecker', scale: '3', shape1: [4, 6], shape2: [8, 8], rank1: 1, rank2: 1 },
    ],
    [
      'lokr-whole',
      DOWN,
      { form: 'kronecker', scale: '1', shape1: [2, 2], shape2: [16, 24], rank2: 8 },
    ],
    [
      'oft',
      DOWN,
      { form: 'rotation', blockSize: 8, shared: false, series: ['1', '2', '2', '2', '1'] },
    ],
    ['oft-terms-3', Q, { form: 'rotation', series: ['1', '2', '2', '1'] }],
    ['oft-terms-2', DOWN, { form: 'rotation', blockSize: 12, series: ['1', '2'] }],
    ['oft-exact', Q, { form: 'rotation', blockSize: 16 }],
    ['oft-constrained', Q, { form: 'rotation', maxNorm: '0.75' }],
    ['oft-shared', Q, { form: 'rotation', blockSize: 4, shared: true, maxNorm: '0.9' }],
    ['old-oft', Q, { form: 'rotation', series: ['1', '2', '2', '2'] }],
    ['boft', DOWN, { form: 'butterfly', blockSize: 4, factors: 1 }],
    ['boft-butterfly', Q, { form: 'butterfly', blockSize: 4, factors: 3 }],
    ['boft-blocks', DOWN, { form: 'butterfly', blockSize: 12, factors: 2 }],
    ['fourierft', DOWN, { form: 'spectrum', frequencies: 40, scale: '90' }],
    ['fourierft', 'model.layers.0.self_attn.v_proj', { form: 'spectrum', frequencies: 25 }],
  ])('%s at %s is what its config and tensors say', async (name, site, want) => {
    const { manifest } = await importDense(name)
    expect(manifest.operations.find((op) => op.site === site)).toMatchObject({
      op: 'dense',
      ...want,
    })
  })

  it('the exact OFT has no series, and biases and norms come beside', async () => {
    const { manifest } = await importDense('oft-exact')
    expect(manifest.operations[0]).not.toHaveProperty('series')
    expect(manifest.method).toEqual({ family: 'oft', flags: ['cayley', 'bias'] })
    const kinds = (operations: Operation[]) => Map.groupBy(operations, ({ op }) => op)
    expect(kinds(manifest.operations).get('replace')).toHaveLength(6)
    const { manifest: boft } = await importDense('boft-blocks')
    expect(boft.method).toEqual({ family: 'boft', flags: ['modules_to_save'] })
    expect(kinds(boft.operations).get('replace')).toHaveLength(5)
  })

  it.each(Object.keys(NORMS))('norms of %s are those of PEFT’s weight changes', async (name) => {
    const { manifest, safetensors } = await importDense(name)
    const { tensors } = readSafetensors(safetensors)
    const values = (key: string) => toNumbers(tensors.get(key)!.dtype, tensors.get(key)!.data)
    const own = manifest.operations.map((op) => [op.site, deltaNorm(op, values)] as const)
    expect(own.map(([site]) => site).sort()).toEqual(Object.keys(NORMS[name]!).sort())
    for (const [site, norm] of own) expect(norm! / NORMS[name]![site]!).toBeCloseTo(1, 6)
  })

  it('knows no norm where the change depends on the base', async () => {
    for (const name of ['oft', 'boft']) {
      const [first] = (await importDense(name)).manifest.operations
      expect(deltaNorm(first!, () => new Float32Array())).toBeNull()
    }
  })
})

describe('dense types of PEFT are refused', () => {
  it.each<[string, string, (files: Files) => void, string, string | RegExp]>([
    [
      'FourierFT without its places, with the lines that add them',
      'fourierft',
      withTensors((t) => t.delete(`${Q}.fourierft_indices`)),
      'ERR_METHOD_UNSUPPORTED',
      /q_proj: FourierFT .*torch\.randperm[\s\S]*m\.indices\["default"\][\s\S]*save_file\(tensors, path/,
    ],
    [
      'places outside the matrix',
      'fourierft',
      setIndices((i) => (i[0] = 32n)),
      'ERR_MANIFEST_INVALID',
      'place 0',
    ],
    [
      'a place twice',
      'fourierft',
      setIndices((i) => ([i[1], i[41]] = [i[0]!, i[40]!])),
      'ERR_MANIFEST_INVALID',
      'place 1',
    ],
    [
      'places that are no integers',
      'fourierft',
      setShape(`${Q}.fourierft_indices`, [2, 40]),
      'ERR_SAFETENSORS_INVALID',
      'dtype of indices',
    ],
    [
      'weights that are integers',
      'loha',
      withTensors((t) =>
        t.set(`${Q}.hada_w1_a`, { dtype: 'I32', shape: [32, 3], data: new Uint8Array(384) }),
      ),
      'ERR_SAFETENSORS_INVALID',
      'dtype of weights',
    ],
    [
      'another number of frequencies than the config’s',
      'fourierft',
      withConfig({ n_frequency_pattern: {} }),
      'ERR_TENSOR_SHAPE',
      'n_frequency',
    ],
    [
      'LoHa on a convolution',
      'loha',
      withTensors((t) => t.set(`${Q}.hada_t1`, tensor([3, 3, 3, 3]))),
      'ERR_METHOD_UNSUPPORTED',
      'hada_t1: is LoHa on a convolution',
    ],
    [
      'LoKr on a convolution',
      'lokr',
      withTensors((t) => t.set(`${Q}.lokr_t2`, tensor([2, 2, 3, 3]))),
      'ERR_METHOD_UNSUPPORTED',
      'convolution',
    ],
    [
      'a whole side of four axes',
      'lokr-whole',
      setShape('model.layers.0.self_attn.v_proj.lokr_w1', [2, 2, 1, 1]),
      'ERR_METHOD_UNSUPPORTED',
      'convolution',
    ],
    [
      'a rank that is not the config’s',
      'loha',
      withConfig({ r: 4 }),
      'ERR_TENSOR_SHAPE',
      'rank of the config',
    ],
    [
      'LoKr of another base',
      'lokr',
      setShape(`${Q}.lokr_w1`, [4, 5]),
      'ERR_TENSOR_SHAPE',
      '40 -> 32',
    ],
    [
      'half of a side',
      'lokr',
      withTensors((t) => t.delete(`${Q}.lokr_w2_b`)),
      'ERR_TENSOR_MISSING',
      'has no w2b',
    ],
    [
      'OFT before PEFT 0.16',
      'oft',
      rename(/oft_R\.weight/, 'oft_r'),
      'ERR_METHOD_UNSUPPORTED',
      'merge_and_unload',
    ],
    [
      'OFT on an embedding',
      'oft',
      withTensors((t) => t.set('model.embed_tokens.oft_embedding_R.weight', tensor([4, 28]))),
      'ERR_METHOD_UNSUPPORTED',
      'rotates an embedding',
    ],
    [
      'OFT that does not say which map',
      'oft',
      withConfig({ use_cayley_neumann: undefined }),
      'ERR_CONFIG_INVALID',
      'use_cayley_neumann',
    ],
    [
      'OFT of a version between two series',
      'oft',
      withConfig({ peft_version: '0.17.2.dev0@abc' }),
      'ERR_METHOD_UNSUPPORTED',
      'development version 0.17.2.dev0',
    ],
    [
      'a series without end',
      'oft',
      withConfig({ num_cayley_neumann_terms: 1e9 }),
      'ERR_CONFIG_INVALID',
      'at most 64',
    ],
    [
      'blocks that are not the config’s',
      'oft',
      withConfig({ oft_block_size: 16 }),
      'ERR_TENSOR_SHAPE',
      'blocks of 16',
    ],
    [
      'shared blocks that the config does not name',
      'oft-shared',
      withConfig({ block_share: false }),
      'ERR_TENSOR_SHAPE',
      'oft_R',
    ],
    [
      'BOFT of other levels',
      'boft-butterfly',
      withConfig({ boft_n_butterfly_factor: 2 }),
      'ERR_TENSOR_SHAPE',
      'of 2 factors',
    ],
    [
      'BOFT of other blocks',
      'boft',
      withConfig({ boft_block_size: 8 }),
      'ERR_TENSOR_SHAPE',
      'boft_R',
    ],
    ['a bias of no known kind', 'boft', withConfig({ bias: 'some' }), 'ERR_CONFIG_INVALID', 'bias'],
    [
      'a key that is not known',
      'oft',
      withConfig({ oft_flip: true }),
      'ERR_CONFIG_UNKNOWN_KEY',
      'oft_flip',
    ],
    [
      'a module that is no linear layer',
      'boft',
      rename(/self_attn\.q_proj/, 'input_layernorm'),
      'ERR_METHOD_UNSUPPORTED',
      'is not a linear layer',
    ],
    [
      'a target without tensors',
      'oft',
      withTensors((t) => t.delete(`${Q}.oft_R.weight`)),
      'ERR_TENSOR_MISSING',
      'q_proj',
    ],
  ])('%s', async (_, name, edit, code, reason) => {
    await expect(importDense(name, edit)).rejects.toMatchObject({
      code,
      message:
        typeof reason === 'string'
          ? expect.stringContaining(reason)
          : expect.stringMatching(reason),
    })
  })

  it.each([
    ['loha', /hada_w2_b/],
    ['lokr-both', /lokr_w1_a/],
    ['lokr-whole', /lokr_w1$/],
    ['oft', /oft_R/],
    ['fourierft', /fourierft_spectrum/],
  ])('%s as it is before training: it changes nothing', async (name, zeroed) => {
    const untrained = withTensors((tensors) => {
      for (const [key, { shape }] of tensors) if (zeroed.test(key)) tensors.set(key, tensor(shape))
    })
    await expect(importDense(name, untrained)).rejects.toMatchObject({ code: 'ERR_ZERO_EFFECT' })
  })

  it('BOFT as it is before training: no rotation, no scale', async () => {
    const untrained = withTensors((tensors) => {
      for (const [key, { shape }] of tensors)
        tensors.set(key, tensor(shape, key.endsWith('boft_s') ? 1 : 0))
    })
    await expect(importDense('boft', untrained)).rejects.toMatchObject({ code: 'ERR_ZERO_EFFECT' })
  })
})
