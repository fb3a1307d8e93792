/** What a figure has to reach; null = printed, not judged. */
export type Goal = { least: number } | { most: number } | { is: boolean } | null

export interface GoalRow {
  bench: string
  key: string
  /** What the figure is, in a few words. */
  what: string
  goal: Goal
}

const row = (bench: string, key: string, what: string, goal: Goal): GoalRow => ({
  bench,
  key,
  what,
  goal,
})

/** The figures that are asked of this project, in the order of the page. */
export const GOALS: readonly GoalRow[] = [
  row('adapters-distinct', 'ratio_2048', '16 adapters in a batch of 16 / base, 2048-wide shape', {
    least: 0.85,
  }),
  row('adapters-distinct', 'ratio_135m', 'the same, 135M shape', { least: 0.7 }),
  row('adapters-registered', 'ratio', '1,000 files over a bank of 64 / 16 all resident', {
    least: 0.95,
  }),
  row('vs-llama-cpp', 'mixed_16', '16 adapters / node-llama-cpp with one for all 16', {
    least: 2.5,
  }),
  row('vs-llama-cpp', 'single_decode', 'one request, one adapter: decoding', { least: 1.2 }),
  row('vs-llama-cpp', 'single_prefill', 'the same: its prompt of 100 tokens', { least: 1 }),
  row(
    'vs-llama-cpp',
    'mixed_16_8bit',
    'the same three on 8-bit weights (w8a8, q8_0): 16 adapters',
    {
      least: 2.5,
    },
  ),
  row('vs-llama-cpp', 'single_decode_8bit', 'decoding', { least: 1.2 }),
  row('vs-llama-cpp', 'single_prefill_8bit', 'the prompt', { least: 1 }),
  row('vs-transformers-js', 'batch_16_short', '16 rows of the base, past 100', { least: 2.5 }),
  row('vs-transformers-js', 'batch_16_long', 'the same, past 1,000', { least: 5 }),
  row('cold-adapter', 'ttft_ratio', 'first token, adapter from the registry / resident', {
    most: 1.5,
  }),
  row('cold-adapter', 'others_slowdown', 'what 8 decoding requests lose meanwhile', { most: 0.05 }),
  row('cold-adapter', 'first_admission_ratio', 'the same with goldens to prove', { most: 4 }),
  row('switch', 'ratio', 'another adapter set each step / the same', { least: 0.98 }),
  row('unused', 'b1', 'base row beside loaded adapters / no adapters', { least: 0.97 }),
  row('unused', 'b16', '16 base rows, the same', { least: 0.97 }),
  row('merge', 'speed_ratio', 'merged adapter / base', { least: 0.98 }),
  row('merge', 'restore_exact', 'unmerging gives the base back, bit for bit', { is: true }),
  row('merge', 'rebuild_s', 'seconds to build a merged form', null),
  row('merge', 'others_slowdown', 'what decoding requests lose meanwhile', null),
  row('bottleneck', 'one', 'one bottleneck adapter for 16 rows / base', { least: 0.95 }),
  row('bottleneck', 'sixteen', '16 of them / base', { least: 0.85 }),
  row('mixed-methods', 'ratio', 'LoRA, DoRA, IA3, bottleneck, base rows / LoRA rows', {
    least: 0.9,
  }),
  row('base-memory', 'resident', 'a prepared base in memory / its weights', { most: 1.5 }),
  row('base-memory', 'peak', 'the same at its most, first start', { most: 1.6 }),
  row('nf4', 'memory_ratio', 'weights, absmax, embeddings / fp32', { most: 0.2 }),
  row('nf4', 'nll_delta', 'nats per token over fp32', null),
  row('nf4', 'speed_vs_q4', 'NF4 / 4-bit blocks', { least: 0.5 }),
  row('webgpu', 'ratio_16', '16 adapters in a batch of 16 / base, on a GPU', { least: 0.7 }),
  row('webgpu', 'kv_bytes_copied_per_step', 'bytes of KV between host and device', null),
  row('format', 'import_mb_s', 'a 500 MB PEFT adapter imported, disk to disk, MB/s', {
    least: 200,
  }),
  row('format', 'verify_mb_s', 'the same verified, MB/s', { least: 200 }),
  row('format', 'peak_rss_ratio', "the import's memory at its most / the adapter", null),
  row('publish', 'mb_s', '500 MB into the registry and out again, MB/s', null),
  row('publish', 'server_rss_growth_mb', 'MB that its process grows by meanwhile', { most: 64 }),
  row('conformance', 'worst_alone', "largest error of a logit against the peers', one row", {
    most: 1e-4,
  }),
  row('conformance', 'worst_together', 'the same in mixed batches of 16', { most: 1e-4 }),
  row('conformance', 'greedy_same_share', "greedy answers that are the peers' to the end", {
    least: 0.95,
  }),
  row('resolve', 'p99_ms_versions', 'a range among 10,000 versions, ms', { most: 5 }),
  row('resolve', 'p99_ms_packages', 'any of 1,000,000 packages, ms', { most: 5 }),
]
