type Labels = Record<string, string>

export interface Metrics {
  /** Adds to a counter. */
  count(name: string, labels?: Labels, by?: number): void
  /** Notes a duration in milliseconds; shown in seconds, as Prometheus names ask. */
  observe(name: string, ms: number, labels?: Labels): void
  /** Read when scraped. */
  gauge(name: string, help: string, read: () => number): void
  /** Prometheus text exposition format 0.0.4. */
  text(): string
}

/** Help by name: what is counted is declared here and nowhere else. */
const COUNTERS: Record<string, string> = {
  graft_requests_total: 'Requests by outcome.',
  graft_tokens_total: 'Tokens by kind (prompt, completion).',
  graft_steps_total: 'Engine steps.',
  graft_step_rows_total: 'Rows over all engine steps.',
  graft_adapter_loads_total: 'Adapters brought into host memory, by where they came from.',
  graft_admissions_total: 'Admissions by outcome.',
  graft_bank_evictions_total: 'Adapters that left the bank for others.',
}
const HISTOGRAMS: Record<string, string> = {
  graft_step_seconds: 'Time the engine took for a step.',
  graft_first_token_seconds: 'Time from a request to its first token.',
  graft_request_seconds: 'Time from a request to its last frame.',
  graft_adapter_load_seconds: 'Time to bring an adapter into host memory.',
  graft_bank_load_seconds: 'Time to bring an adapter from host memory into the bank.',
}
/** Seconds: from a step of a tiny model to an answer of minutes. */
const BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]

const quote = (value: string): string =>
  value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')

const series = (name: string, labels: Labels): string => {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}="${quote(value)}"`)
  return pairs.length > 0 ? `${name}{${pairs.join(',')}}` : name
}

interface Histogram {
  labels: Labels
  counts: number[]
  sum: number
  total: number
}

export function createMetrics(): Metrics {
  const counters = new Map<string, Map<string, number>>()
  const histograms = new Map<string, Map<string, Histogram>>()
  const gauges = new Map<string, { help: string; read: () => number }>()
  return {
    count(name, labels = {}, by = 1) {
      const rows = counters.get(name) ?? new Map<string, number>()
      counters.set(name, rows)
      const key = series(name, labels)
      rows.set(key, (rows.get(key) ?? 0) + by)
    },
    observe(name, ms, labels = {}) {
      const rows = histograms.get(name) ?? new Map<string, Histogram>()
      histograms.set(name, rows)
      const key = series(name, labels)
      const row = rows.get(key) ?? { labels, counts: BUCKETS.map(() => 0), sum: 0, total: 0 }
      rows.set(key, row)
      const seconds = ms / 1000
      for (const [i, edge] of BUCKETS.entries()) if (seconds <= edge) row.counts[i]!++
      row.sum += seconds
      row.total++
    },
    gauge(name, help, read) {
      gauges.set(name, { help, read })
    },
    text() {
      const lines: string[] = []
      const head = (name: string, help: string, type: string): void => {
        lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`)
      }
      for (const [name, { help, read }] of gauges) {
        head(name, help, 'gauge')
        lines.push(`${name} ${read()}`)
      }
      for (const [name, rows] of counters) {
        head(name, COUNTERS[name] ?? name, 'counter')
        for (const [key, value] of rows) lines.push(`${key} ${value}`)
      }
      for (const [name, rows] of histograms) {
        head(name, HISTOGRAMS[name] ?? name, 'histogram')
        for (const { labels, counts, sum, total } of rows.values()) {
          for (const [i, edge] of BUCKETS.entries())
            lines.push(`${series(`${name}_bucket`, { ...labels, le: String(edge) })} ${counts[i]}`)
          lines.push(`${series(`${name}_bucket`, { ...labels, le: '+Inf' })} ${total}`)
          lines.push(`${series(`${name}_sum`, labels)} ${sum}`)
          lines.push(`${series(`${name}_count`, labels)} ${total}`)
        }
      }
      return `${lines.join('\n')}\n`
    },
  }
}
