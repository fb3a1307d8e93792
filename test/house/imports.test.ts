import { globSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { describe, expect, it } from 'vitest'

const root = join(import.meta.dirname, '../..')

/** Which room may import which: the house's one rule (README, "The house"). */
const MAY_IMPORT: Record<string, string[]> = {
  'sdk/format': [],
  'sdk/protocol': ['sdk/format'],
  'sdk/convert': ['sdk/format', 'sdk/protocol'],
  'sdk/client': ['sdk/format', 'sdk/protocol'],
  sdk: ['sdk/format', 'sdk/protocol', 'sdk/client'],
  'sdk/cli': ['sdk/format', 'sdk/protocol', 'sdk/convert', 'sdk/client', 'sdk'],
  registry: ['sdk/format', 'sdk/protocol', 'sdk/convert'],
  edge: ['sdk/format', 'sdk/protocol'],
  'gpu-runner': ['sdk/format', 'sdk/protocol', 'sdk/convert', 'sdk/client', 'sdk'],
  infra: [
    'sdk/format',
    'sdk/protocol',
    'sdk/convert',
    'sdk/client',
    'sdk',
    'registry',
    'edge',
    'gpu-runner',
  ],
}

/** Folders that alone may import a package or a platform. */
const OWNERS: [name: string, matches: (specifier: string) => boolean, folders: string[]][] = [
  ['onnxruntime-node', (s) => s.startsWith('onnxruntime'), ['gpu-runner/engine/onnx']],
  ['jose', (s) => s === 'jose', ['sdk/format', 'registry/identity/oidc']],
  ['semver', (s) => s === 'semver', ['registry', 'sdk/cli']],
  ['@noble', (s) => s.startsWith('@noble/'), ['edge/ledger', 'registry/workers']],
  ['commander', (s) => s === 'commander', ['sdk/cli']],
  ['@aws-sdk', (s) => s.startsWith('@aws-sdk/'), ['registry/node']],
  ['@huggingface', (s) => s.startsWith('@huggingface/'), ['gpu-runner/tokenizer']],
  ['@mlc-ai/web-xgrammar', (s) => s.startsWith('@mlc-ai/'), ['gpu-runner/sampling/grammar']],
  ['marked', (s) => s === 'marked', ['registry/pages']],
  ['zod', (s) => s === 'zod', ['registry', 'edge', 'gpu-runner']],
  [
    'node:',
    (s) => s.startsWith('node:'),
    ['sdk/cli', 'registry/node', 'edge/node', 'gpu-runner', 'infra'],
  ],
  [
    'cloudflare:',
    (s) => /^(cloudflare:|@cloudflare\/)/.test(s),
    ['registry/workers', 'edge/workers', 'infra/worker.ts'],
  ],
]

const PACKAGES: Record<string, string> = {
  '@graft/sdk': 'sdk',
  '@graft/convert': 'sdk/convert',
  '@graft/cli': 'sdk/cli',
  '@graft/registry': 'registry',
  '@graft/edge': 'edge',
  '@graft/runner': 'gpu-runner',
}

const rooms = Object.keys(MAY_IMPORT).sort((a, b) => b.length - a.length)
const roomOf = (path: string) => rooms.find((room) => path.startsWith(`${room}/`))

const files = globSync('{sdk,registry,edge,gpu-runner,infra}/**/*.{ts,mjs}', { cwd: root }).filter(
  (file) => !file.includes('node_modules') && !file.startsWith('infra/samples'),
)

const specifiers = (file: string): string[] =>
  [
    ...readFileSync(join(root, file), 'utf8').matchAll(
      /(?:^|\s)(?:import|export)\b[^'"`;]*?from\s+'([^']+)'|import\(\s*'([^']+)'\s*\)|^import\s+'([^']+)'/gm,
    ),
  ].map((match) => (match[1] ?? match[2] ?? match[3])!)

/** Path of an imported file inside the repository, or null for a foreign package. */
function target(file: string, specifier: string): string | null {
  if (specifier.startsWith('.')) return relative(root, join(root, dirname(file), specifier))
  const name = Object.keys(PACKAGES).find((p) => specifier === p || specifier.startsWith(`${p}/`))
  if (!name) return null
  const rest = specifier.slice(name.length + 1)
  return `${PACKAGES[name]}/${rest || 'index.ts'}`
}

describe('the import rule', () => {
  it('finds the rooms it is about', () => expect(files.length).toBeGreaterThan(20))

  for (const file of files) {
    const from = roomOf(file)!
    it(`${file} imports only what ${from} may`, () => {
      for (const specifier of specifiers(file)) {
        const path = target(file, specifier)
        if (path === null) {
          for (const [name, matches, folders] of OWNERS)
            if (matches(specifier) && !folders.some((f) => file === f || file.startsWith(`${f}/`)))
              expect.fail(`${file} imports ${specifier}; ${name} belongs to ${folders.join(', ')}`)
          continue
        }
        const to = roomOf(path)
        if (to !== from && !(to && MAY_IMPORT[from]!.includes(to)))
          expect.fail(
            `${file} imports ${specifier}; ${from} may import ${MAY_IMPORT[from]!.join(', ') || 'nothing'}`,
          )
      }
    })
  }
})
