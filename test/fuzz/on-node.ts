import { DEFAULT_LIMITS, type LogRecord } from '@graft/registry/deps.ts'
import { createNodeRegistry } from '@graft/registry/node/create-node-registry.ts'
import { ISSUER, SETUP_CODE, temporaryFolder } from '../registry/fixtures.ts'
import { type FuzzOptions, type FuzzReport, fuzzRegistry } from './fuzz-registry.ts'
import { PART_BYTES } from './requests.ts'
import { listRoutes } from './routes.ts'

/** Bytes: small enough that what is too large is made quickly, and that blobs come in parts. */
const LIMITS = { ...DEFAULT_LIMITS, manifest: 256 * 1024, part: PART_BYTES }

/** The registry on Node, in this process and in a folder of its own; `defects` are what it logged since last asked. */
export async function openOnNode() {
  const folder = temporaryFolder()
  const records: LogRecord[] = []
  const registry = await createNodeRegistry({
    stateDir: folder.path,
    issuerName: ISSUER,
    setupCode: SETUP_CODE,
    limits: LIMITS,
    log: (record) => {
      if (record.error !== undefined) records.push(record)
    },
  })
  return {
    registry,
    defects: () => records.splice(0),
    async close() {
      await registry.close()
      folder.clean()
    },
  }
}

/** A fuzz run over it. */
export async function fuzzOnNode(options: Omit<FuzzOptions, 'defects'>): Promise<FuzzReport> {
  const { registry, defects, close } = await openOnNode()
  try {
    return await fuzzRegistry(registry.app, listRoutes(registry.app), { ...options, defects })
  } finally {
    await close()
  }
}
