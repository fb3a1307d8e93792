/**
 * glibc's answers to the way a runner allocates. Adapters of all sizes come and go for days between small values that stay:
 * with malloc's own rule (a freed mapping of up to 32 MiB raises the size from which it maps) their holes are kept for ever.
 * From 256 KiB on memory is mapped and given back; arenas are few, since threads pass memory to each other.
 */
const MALLOC = {
  MALLOC_ARENA_MAX: '2',
  MALLOC_MMAP_THRESHOLD_: '262144',
  MALLOC_TRIM_THRESHOLD_: '262144',
} as const

/** A young generation of 3 x 16 MiB a thread, as before V8 13: the next size up takes 200 MiB of four threads and saves nothing. */
const V8_FLAGS = ['--max-semi-space-size=16'] as const

/** How a launcher starts a runner: the environment that malloc reads once, and V8's flags. What the operator has set stays. */
export const steadyMemory = (env: NodeJS.ProcessEnv) => ({
  env: process.platform === 'linux' ? { ...MALLOC, ...env } : env,
  execArgv: [...V8_FLAGS],
})

/**
 * Starts the program again in this process, under the same pid, when it was started without these settings. Not where a
 * parent talks to it over a channel, which would be lost, nor where Node cannot (before 22.15, and on Windows).
 */
export function startSteady(): void {
  const { platform, env, execArgv, argv, execPath, execve, send } = process
  const set = Object.keys(MALLOC).every((name) => env[name] !== undefined)
  if (platform !== 'linux' || set || execve === undefined || send !== undefined) return
  const steady = steadyMemory(env)
  execve(execPath, [execPath, ...steady.execArgv, ...execArgv, ...argv.slice(1)], steady.env)
}
