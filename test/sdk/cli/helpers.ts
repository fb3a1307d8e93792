import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export const MAIN = join(import.meta.dirname, '../../../sdk/cli/main.ts')

export interface Ran {
  exit: number | null
  stdout: string
  stderr: string
  /** stdout as the one JSON document it must be. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look into results by name
  json(): any
}

/** A folder of its own for settings, keys and output; `graft` runs the command as a user's shell would. */
export function createShell(env: Record<string, string>) {
  const folder = mkdtempSync(join(tmpdir(), 'graft-cli-'))
  const settings = { PATH: process.env['PATH']!, GRAFT_HOME: join(folder, 'home'), ...env }
  const exec = (
    command: string,
    args: string[],
    { stdin = '', extra = {} }: { stdin?: string; extra?: Record<string, string> } = {},
  ): Promise<Ran> =>
    new Promise((resolve) => {
      const child = spawn(command, args, { cwd: folder, env: { ...settings, ...extra } })
      const out = { stdout: '', stderr: '' }
      child.stdout.on('data', (data) => (out.stdout += data))
      child.stderr.on('data', (data) => (out.stderr += data))
      child.on('close', (exit) =>
        resolve({
          exit,
          ...out,
          json() {
            if (out.stdout.trim().split('\n').length !== 1)
              throw new Error(`not one document: ${out.stdout}${out.stderr}`)
            return JSON.parse(out.stdout)
          },
        }),
      )
      child.stdin.end(stdin)
    })
  return {
    folder,
    exec,
    graft: (args: string[], how?: Parameters<typeof exec>[2]) =>
      exec(process.execPath, [MAIN, ...args], how),
    clean: () => rmSync(folder, { recursive: true, force: true }),
  }
}
