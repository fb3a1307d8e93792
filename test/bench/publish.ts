import { createHash } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openInput } from '@graft/cli/files.ts'
import { createRegistryClient } from '@graft/sdk/client/registry-client.ts'
import { baseDigest } from '@graft/sdk/format/base-identity.ts'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { generateSigningKey } from '@graft/sdk/format/jws.ts'
import { type Bench, NOTHING } from './bench.ts'
import { writeBigAdapter } from './format/big-adapter.ts'
import { importToDisk } from './format/import-to-disk.ts'
import { rounded } from './statistics.ts'
import { startRegistry } from './tiers/start-registry.ts'

/** 21 MB of rank-64 LoRA each, f32: 24 layers are 500 MB. */
const LAYERS = { quick: 6, whole: 24 }

/** Bytes of another process's memory, now and at its most since `resetPeak`. Linux only: elsewhere nothing tells. */
async function memoryOf(pid: number): Promise<{ now: number; peak: number }> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  const kib = (field: string) => Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)![1])
  return { now: kib('VmRSS') * 1024, peak: kib('VmHWM') * 1024 }
}
/** proc_pid_clear_refs(5): 5 sets the peak to what it is now. */
const resetPeak = (pid: number): Promise<void> => writeFile(`/proc/${pid}/clear_refs`, '5')

/**
 * An adapter of 500 MB from disk through the client into the Node server's file store, verified there, and out again: the
 * server is a process of its own, its memory is seen from outside.
 */
export const publish: Bench = {
  about: 'a large adapter into the registry on Node and out again: MB/s and memory growth',
  needs: NOTHING,
  async run({ quick, progress }) {
    const folder = await mkdtemp(join(tmpdir(), 'graft-bench-publish-'))
    await using stack = new AsyncDisposableStack()
    stack.defer(() => rm(folder, { recursive: true, force: true }))
    const adapter = await writeBigAdapter(folder, LAYERS[quick ? 'quick' : 'whole'])
    const manifest = await importToDisk(adapter)
    const { size, sha256 } = manifest.files.find((file) => file.role === 'canonical')!
    const mb = size / 1e6
    progress(`an adapter of ${mb.toFixed(0)} MB`)
    const { url, setupCode, pid } = await startRegistry(stack, join(folder, 'registry'))
    const { token } = await createRegistryClient({ url }).setup({
      ...{ code: setupCode, user: 'ada', org: 'bench' },
    })
    const client = createRegistryClient({ url, token })
    const key = await generateSigningKey()
    await client.addKey('bench', key.publicJwk)
    const digest = await baseDigest(adapter.base.identity)
    await client.putBase({ digest, ...adapter.base })

    const { now: idle } = await memoryOf(pid)
    await resetPeak(pid)
    let begin = performance.now()
    await using input = await openInput(join(folder, 'adapter.safetensors'))
    const [source] = input.files.values()
    await client.publish({ manifest, safetensors: source!, keys: [key] })
    const inside = (performance.now() - begin) / 1000
    const { peak: peakIn } = await memoryOf(pid)
    progress(`in: ${inside.toFixed(1)} s, ${((peakIn - idle) / 1e6).toFixed(0)} MB more`)

    begin = performance.now()
    const response = await fetch(`${url}/v1/blobs/${sha256}`)
    const hash = createHash('sha256')
    for await (const chunk of response.body!) hash.update(chunk)
    const out = (performance.now() - begin) / 1000
    if (fromHex(hash.digest('hex')) !== sha256) throw new Error('what came out is not what went in')
    const { peak } = await memoryOf(pid)
    progress(`out: ${out.toFixed(1)} s, ${((peak - idle) / 1e6).toFixed(0)} MB more`)
    return {
      mb_s: rounded((2 * mb) / (inside + out)),
      server_rss_growth_mb: rounded((peak - idle) / 1e6),
      adapter_mb: rounded(mb),
      in_mb_s: rounded(mb / inside),
      out_mb_s: rounded(mb / out),
      server_idle_mb: rounded(idle / 1e6),
      growth_in_mb: rounded((peakIn - idle) / 1e6),
    }
  },
}
