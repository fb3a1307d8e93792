import { spawnSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { exportSigningKey, generateSigningKey } from '@graft/sdk/format/jws.ts'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { writeTinyCheckpoint } from '../engine/tiny-checkpoint.ts'

const MAIN = join(import.meta.dirname, '../../../gpu-runner/main.ts')

let tiny: Awaited<ReturnType<typeof writeTinyCheckpoint>>
let folder: string

beforeAll(async () => {
  tiny = await writeTinyCheckpoint()
  folder = await mkdtemp(join(tmpdir(), 'graft-webgpu-'))
  const key = await exportSigningKey(await generateSigningKey())
  await writeFile(join(folder, 'fleet.json'), JSON.stringify(key))
})
afterAll(async () => {
  await tiny?.remove()
  await rm(folder, { recursive: true, force: true })
})

/** The runner with no Vulkan driver to be found, also where the machine has one. */
const runner = (execution: string) => {
  const flags = {
    checkpoint: tiny.dir,
    registry: 'http://127.0.0.1:1',
    port: '0',
    state: join(folder, 'state'),
    id: 'runner-1',
    'fleet-key': join(folder, 'fleet.json'),
    execution,
  }
  const env = { ...process.env, VK_ICD_FILENAMES: '/dev/null', VK_DRIVER_FILES: '/dev/null' }
  const args = [MAIN, ...Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value])]
  return spawnSync(process.execPath, args, { env, encoding: 'utf8', timeout: 50_000 })
}

// Elsewhere the adapter is Metal's or Direct3D's, and no variable hides it.
describe.skipIf(process.platform !== 'linux')('a runner without an adapter', () => {
  test('says what is missing and what to do, and ends with the exit code of what is unsupported', () => {
    const { status, stderr, stdout } = runner('webgpu')
    expect(stderr).toMatch(
      /ERR_NOT_INSTALLED: execution webgpu needs a GPU .* or run with execution 'cpu'/,
    )
    expect(stderr).not.toMatch(/\n\s+at .*\.ts:/)
    expect(stdout).toBe('')
    expect(status).toBe(9)
  })
})

test('an execution that is none is refused with those that there are', () => {
  const { status, stderr } = runner('cuda')
  expect(stderr).toMatch(/ERR_REQUEST_INVALID: execution must be cpu or webgpu, got "cuda"/)
  expect(status).toBe(2)
})
