import { createHash } from 'node:crypto'
import { existsSync, globSync, readdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { createRegistryClient } from '@graft/sdk/client/registry-client.ts'
import { isGraftError } from '@graft/sdk/format/errors.ts'
import { generateSigningKey, signEnvelope } from '@graft/sdk/format/jws.ts'
import { JWS_TYPES } from '@graft/sdk/format/manifest.ts'
import { goldensStatement, statementBytes } from '@graft/sdk/format/statements.ts'
import {
  type Adapter,
  adapter,
  SETUP_CODE,
  temporaryFolder,
  tinyBase,
} from '../registry/fixtures.ts'
import { type RegistryProcess, startRegistry } from './registry-process.ts'

export interface KillReport {
  /** Times that the process died by SIGKILL: at a step of a publish, at any moment, in a sweep. */
  kills: { step: number; moment: number; sweep: number }
  /** Changes of the stores that one publish makes: each was died at, before it and after it. */
  steps: number
  /** Publishes that were out after the restart though the client saw none, and those that were not. */
  outAfterKill: number
  notOutAfterKill: number
  published: number
  abandoned: number
  /** What broke a promise; empty when all is well. */
  broken: string[]
  /** Files in staging or half written, and blobs that nothing names, after the last sweep. */
  leftovers: string[]
}

const DAY_MS = 86_400_000

/**
 * Publishes over HTTP while the server is killed, again and again; after each death it is started on the same folder, and
 * what the killed publish left must be all of a version or nothing. Two of three are published again and must succeed;
 * the third is given up and must be swept without a trace.
 */
export async function killLoop(
  kills: number,
  progress: (line: string) => void = () => {},
): Promise<KillReport> {
  const folder = temporaryFolder()
  const stateDir = folder.path
  let server = await startRegistry(stateDir)
  const key = await generateSigningKey()
  const base = await tinyBase()
  const setup = createRegistryClient({ url: server.url })
  const { token } = await setup.setup({ code: SETUP_CODE, user: 'ada', org: 'acme' })
  const client = () => createRegistryClient({ url: server.url, token, retries: 0 })
  await client().addKey('acme', key.publicJwk)
  await client().putBase(base)

  const report: KillReport = {
    kills: { step: 0, moment: 0, sweep: 0 },
    ...{ steps: 0, outAfterKill: 0, notOutAfterKill: 0, published: 0, abandoned: 0 },
    ...{ broken: [], leftovers: [] },
  }
  const published: Adapter[] = []
  const make = (i: number) =>
    adapter({ base, name: `@acme/kill-${i}`, seed: 100 + i * 10, rank: 8, withGoldens: true })

  async function publish({ manifest, digest, files, goldens }: Adapter): Promise<void> {
    const statement = statementBytes(goldensStatement(manifest.name, digest, goldens!))
    const [safetensors, logits] = [...files.values()]
    await client().publish({
      manifest,
      safetensors: safetensors!,
      blobs: [{ digest: goldens!.logits.sha256, bytes: logits! }],
      attestations: [await signEnvelope(statement, JWS_TYPES.attestation, [key])],
      keys: [key],
    })
  }

  /** All of its addresses answer with the right bytes, or none answers. */
  async function visible({ manifest, digest, files }: Adapter): Promise<'all' | 'none' | 'some'> {
    const blobs = [...files].map(([blob, bytes]) => ({ path: `/v1/blobs/${blob}`, bytes }))
    const [scope, name] = manifest.name.split('/')
    const paths = [
      { path: `/v1/packages/${scope}/${name}`, bytes: null },
      { path: `/v1/resolve?ref=${manifest.name}@1.0.0`, bytes: null },
      { path: `/v1/resolve?ref=${manifest.name}@latest`, bytes: null },
      { path: `/v1/manifests/${digest}`, bytes: null },
      ...blobs,
    ]
    const seen = await Promise.all(
      paths.map(async ({ path, bytes }) => {
        const response = await fetch(server.url + path)
        const body = new Uint8Array(await response.arrayBuffer())
        return response.ok && (bytes === null || sha(body) === sha(bytes))
      }),
    )
    if (seen.every((ok) => ok)) return 'all'
    return seen.some((ok) => ok) ? 'some' : 'none'
  }

  const restart = async () => {
    await server.ended
    server = await startRegistry(stateDir)
  }

  // How many steps one publish has, seen on one that nobody disturbs.
  await server.tell({ what: 'kill', at: -1, after: false })
  published.push(await make(0))
  await publish(published[0]!)
  const counted = await server.tell({ what: 'count' })
  report.steps = counted && 'steps' in counted ? counted.steps : 0

  for (let i = 1; total(report) < kills; i++) {
    const what = await make(i)
    // Of three deaths two are at a step, in turn before and after each, and one is at any moment.
    const turn = i - Math.floor(i / 3)
    const atStep = i % 3 !== 0
    if (atStep) {
      const at = turn % report.steps
      await server.tell({ what: 'kill', at, after: Math.floor(turn / report.steps) % 2 === 1 })
    }
    const timer = atStep ? null : setTimeout(() => server.kill(), Math.random() * 120)
    const outcome = await publish(what).then(
      () => 'published' as const,
      (e: unknown) => e,
    )
    if (timer !== null) {
      clearTimeout(timer)
      server.kill()
    } else if (outcome === 'published') await server.tell({ what: 'count' })
    if (outcome !== 'published' && !isGraftError(outcome)) report.broken.push(String(outcome))
    if (outcome !== 'published' && isGraftError(outcome) && outcome.code !== 'ERR_UNREACHABLE')
      report.broken.push(`${what.manifest.name}: ${outcome.code} ${outcome.message}`)
    if (atStep && outcome === 'published') server.kill()
    await restart()
    report.kills[atStep ? 'step' : 'moment']++

    const left = await visible(what)
    if (left === 'some') report.broken.push(`${what.manifest.name} is half visible`)
    if (outcome === 'published' && left !== 'all')
      report.broken.push(`${what.manifest.name} was answered as published and is ${left}`)
    if (left === 'all') report.outAfterKill++
    else report.notOutAfterKill++
    if (i % 3 === 1 && left === 'none') report.abandoned++
    else {
      await publish(what).catch((e: unknown) => report.broken.push(`again: ${String(e)}`))
      if ((await visible(what)) !== 'all') report.broken.push(`${what.manifest.name} again`)
      published.push(what)
    }
    if (i % 10 === 0) {
      await server.tell({ what: 'kill', at: Math.floor(i / 10) % 12, after: i % 20 === 0 })
      if ((await server.tell({ what: 'sweep', later: 2 * DAY_MS })) === null) {
        report.kills.sweep++
        await restart()
      } else await server.tell({ what: 'kill', at: -1, after: false })
      progress(`${total(report)} of ${kills} kills, ${report.broken.length} broken promises`)
    }
  }

  await server.tell({ what: 'kill', at: -1, after: false })
  await server.tell({ what: 'sweep', later: 2 * DAY_MS })
  for (const what of published)
    if ((await visible(what)) !== 'all') report.broken.push(`${what.manifest.name} is lost`)
  report.published = published.length
  await end(server)
  report.leftovers = leftovers(stateDir)
  folder.clean()
  return report
}

const total = ({ kills }: KillReport): number => kills.step + kills.moment + kills.sweep
const sha = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

async function end(server: RegistryProcess): Promise<void> {
  server.kill()
  await server.ended
}

/** Read from the disk and the tables, past everything that was tested. */
function leftovers(stateDir: string): string[] {
  const files = (pattern: string) => globSync(pattern, { cwd: join(stateDir, 'blobs') })
  const temporary = join(stateDir, 'blobs/tmp')
  const half = existsSync(temporary) ? readdirSync(temporary).map((name) => `tmp/${name}`) : []
  const db = new DatabaseSync(join(stateDir, 'registry.sqlite'), { readOnly: true })
  const column = (text: string) =>
    db
      .prepare(text)
      .all()
      .map((row) => String(Object.values(row)[0]).replace('sha256:', ''))
  const named = new Set(column('SELECT blob FROM version_blobs UNION SELECT tensors FROM bases'))
  const stored = files('blobs/*/*').map((path) => basename(path))
  const open = column(`SELECT id FROM uploads WHERE state != 'published'`)
  const listed = column('SELECT blob FROM blob_removals')
  db.close()
  return [
    ...files('staging/*'),
    ...half,
    ...stored.filter((hex) => !named.has(hex)).map((hex) => `orphan ${hex}`),
    ...[...named].filter((hex) => !stored.includes(hex)).map((hex) => `lost ${hex}`),
    ...open.map((id) => `upload ${id}`),
    ...listed.map((blob) => `removal ${blob}`),
  ]
}
