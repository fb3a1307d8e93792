import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createNodeRegistry } from '@graft/registry/node/create-node-registry.ts'
import { type Bench, NOTHING } from './bench.ts'
import { BASE, fillPackages, fillVersions, PACKAGES, VERSIONS } from './resolve/fill.ts'
import { randomPackage, randomRange } from './resolve/questions.ts'
import { quantile, rounded } from './statistics.ts'

const ASKS = { quick: 2_000, whole: 10_000 }
const WORST_ASKS = 300
/** Before the clock runs: code is compiled, pages are read. */
const WARM = 100

/**
 * The whole request (route, query, catalogue, JSON, ETag) on node:sqlite, one after the other in one process: what a caller
 * waits for but the socket.
 */
export const resolve: Bench = {
  about: 'resolving a range among 10,000 versions, and any of 1,000,000 packages',
  needs: NOTHING,
  async run({ quick, progress }) {
    const stateDir = await mkdtemp(join(tmpdir(), 'graft-bench-resolve-'))
    try {
      const open = () =>
        createNodeRegistry({ stateDir, issuerName: 'https://registry.test', log: () => {} })
      // The first start makes the tables; the rows are written past the API, which would take days.
      await (await open()).close()
      const begin = performance.now()
      fillPackages(join(stateDir, 'registry.sqlite'))
      fillVersions(join(stateDir, 'registry.sqlite'))
      progress(
        `${PACKAGES} packages and ${VERSIONS} versions in ${((performance.now() - begin) / 1000).toFixed(1)} s`,
      )
      const registry = await open()
      const asks = ASKS[quick ? 'quick' : 'whole']
      const measure = async (asks: number, questionOf: (i: number) => string) => {
        const times: number[] = []
        const cpu: number[] = []
        const outcomes: Record<number, number> = {}
        for (let i = -WARM; i < asks; i++) {
          const path = `/v1/resolve?${questionOf(i)}`
          const before = process.cpuUsage()
          const from = performance.now()
          const response = await registry.app.request(path)
          await response.text()
          const took = performance.now() - from
          if (i < 0) continue
          times.push(took)
          const used = process.cpuUsage(before)
          cpu.push((used.user + used.system) / 1000)
          outcomes[response.status] = (outcomes[response.status] ?? 0) + 1
        }
        const p99_cpu = quantile(cpu, 0.99)
        return { p50: quantile(times, 0.5), p99: quantile(times, 0.99), p99_cpu, outcomes }
      }
      const ofVersions = await measure(asks, (i) => randomRange(i, BASE))
      progress(`a range among versions: p99 ${ofVersions.p99.toFixed(2)} ms`)
      const ofPackages = await measure(asks, (i) => randomPackage(i, PACKAGES))
      progress(`any of the packages: p99 ${ofPackages.p99.toFixed(2)} ms`)
      // The most that one question can cost: nothing fits, so that every version is looked at.
      const worst = await measure(
        WORST_ASKS,
        (i) => `ref=${encodeURIComponent('@big/one@*')}&maxRank=${i % 2}`,
      )
      await registry.close()
      return {
        p99_ms_versions: rounded(ofVersions.p99),
        p99_ms_packages: rounded(ofPackages.p99),
        p50_ms_versions: rounded(ofVersions.p50),
        p50_ms_packages: rounded(ofPackages.p50),
        p99_ms_nothing_fits: rounded(worst.p99),
        p99_cpu_ms_versions: rounded(ofVersions.p99_cpu),
        p99_cpu_ms_packages: rounded(ofPackages.p99_cpu),
        p99_cpu_ms_nothing_fits: rounded(worst.p99_cpu),
        versions: VERSIONS,
        packages: PACKAGES,
        asks,
        answers_versions: ofVersions.outcomes,
        answers_packages: ofPackages.outcomes,
      }
    } finally {
      await rm(stateDir, { recursive: true, force: true })
    }
  },
}
