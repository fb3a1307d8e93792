/** `npm run test:s3`: installs an S3 server beside the repository's own packages and runs the store's contract against it. */
import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { hasS3Server, S3_SERVER_FOLDER } from './contract/s3-server.ts'

const SERVER = 'github.com/versity/versitygw/cmd/versitygw@v1.8.0'
const root = join(import.meta.dirname, '..')

function run(command: string, args: string[], env: NodeJS.ProcessEnv = process.env): number {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit', env })
  if (error) console.error(`${command} cannot be run: ${error.message}`)
  return status ?? 1
}

function main(): number {
  if (!hasS3Server()) {
    mkdirSync(S3_SERVER_FOLDER, { recursive: true })
    console.error(`installing ${SERVER} into ${S3_SERVER_FOLDER}; this needs Go and takes a minute`)
    const status = run('go', ['install', SERVER], { ...process.env, GOBIN: S3_SERVER_FOLDER })
    if (status !== 0) return status
  }
  const vitest = join(root, 'node_modules/.bin/vitest')
  return run(vitest, ['run', 'test/contract/registry-s3.test.ts'])
}

process.exitCode = main()
