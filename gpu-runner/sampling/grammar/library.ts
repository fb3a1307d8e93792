import type * as Xgrammar from '@mlc-ai/web-xgrammar'

/**
 * XGrammar as WebAssembly. Its package says "type": "module" and holds a UMD bundle, which as a module exports nothing,
 * looks for itself at `location` and leaves its exports in a global. So this must run in a thread of its own.
 */
export async function loadLibrary(): Promise<typeof Xgrammar> {
  const name = '@mlc-ai/web-xgrammar'
  const scope = globalThis as { location?: unknown; xgrammar?: typeof Xgrammar }
  scope.location = { href: import.meta.resolve(name) }
  await import('@mlc-ai/web-xgrammar')
  return scope.xgrammar!
}
