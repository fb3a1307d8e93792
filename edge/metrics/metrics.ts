type Labels = Record<string, string>

/** Counters of one process, as Prometheus text (exposition format 0.0.4). */
export interface Metrics {
  add(name: keyof typeof COUNTERS, labels: Labels, by?: number): void
  text(gauges: Record<string, number>): string
}

const COUNTERS = {
  graft_edge_requests_total: 'HTTP requests by route and status.',
  graft_edge_calls_total: 'Calls by outcome.',
  graft_edge_tokens_total: 'Billed tokens by kind.',
  graft_edge_charged_nanos_total: 'Charged, in nano-units.',
  graft_edge_runner_failures_total: 'Runner failures seen by calls.',
  graft_edge_first_token_seconds_sum: 'Seconds from request to first token, summed.',
  graft_edge_first_token_seconds_count: 'Calls that reached a first token.',
} as const

const escapeLabel = (value: string): string =>
  value.replace(/[\\"\n]/g, (c) => (c === '\n' ? '\\n' : `\\${c}`))

export function createMetrics(): Metrics {
  const series = new Map<string, Map<string, number>>()
  return {
    add(name, labels, by = 1) {
      const key = Object.entries(labels)
        .map(([label, value]) => `${label}="${escapeLabel(value)}"`)
        .join(',')
      const values = series.get(name) ?? new Map<string, number>()
      series.set(name, values.set(key, (values.get(key) ?? 0) + by))
    },
    text(gauges) {
      const lines = Object.entries(COUNTERS).flatMap(([name, help]) => [
        `# HELP ${name} ${help}`,
        `# TYPE ${name} counter`,
        ...[...(series.get(name) ?? [])].map(([labels, value]) =>
          labels ? `${name}{${labels}} ${value}` : `${name} ${value}`,
        ),
      ])
      for (const [name, value] of Object.entries(gauges))
        lines.push(`# TYPE ${name} gauge`, `${name} ${value}`)
      return `${lines.join('\n')}\n`
    },
  }
}
