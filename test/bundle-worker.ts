import { join } from 'node:path'
import { build } from 'esbuild'

/** A Worker's module text as wrangler would bundle it; `entry` is relative to the repository. */
export async function bundleWorker(entry: string): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [join(import.meta.dirname, '..', entry)],
    bundle: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    conditions: ['workerd', 'worker', 'browser'],
    external: ['cloudflare:workers'],
    loader: { '.sql': 'text' },
  })
  return outputFiles[0]!.text
}
