import { spawn } from 'node:child_process'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

/** A package of its own, outside the workspaces: who installs Graft never pulls what it is measured against. */
const FOLDER = join(import.meta.dirname, 'peers')

/**
 * Installs what the lock file names. No install script runs: everything comes from the npm registry. Not `npm ci`, which
 * refuses a lock that lacks other platforms' binaries, and node-llama-cpp's are not published for all of them at once.
 */
export function preparePeers(progress: (line: string) => void): Promise<number> {
  progress(`npm install in ${FOLDER}`)
  const npm = spawn(
    'npm',
    ['install', '--no-save', '--ignore-scripts', '--no-audit', '--no-fund'],
    {
      cwd: FOLDER,
      stdio: ['ignore', 'inherit', 'inherit'],
      shell: process.platform === 'win32',
    },
  )
  return new Promise((resolve, reject) => {
    npm.once('error', reject)
    npm.once('exit', (code) => resolve(code ?? 1))
  })
}

/** Loads a peer. @throws with the command that installs it */
export async function importPeer<Module>(name: string): Promise<Module> {
  const { resolve } = createRequire(join(FOLDER, 'package.json'))
  let path: string
  try {
    path = resolve(name)
  } catch (cause) {
    throw new Error(`${name} is not installed: npm run bench -- --prepare`, { cause })
  }
  return import(pathToFileURL(path).href)
}
