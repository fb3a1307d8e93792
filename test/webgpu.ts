/**
 * `npm run test:webgpu`: the engine on WebGPU, over SwiftShader. Installs it where that is a matter of apt and root.
 * `npm run test:webgpu -- --gpu` uses the machine's own adapter instead.
 */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { HOW_TO_INSTALL, softwareVulkan } from './software-vulkan.ts'

const root = join(import.meta.dirname, '..')
const run = (command: string, args: string[], env: Record<string, string> = {}): number =>
  spawnSync(command, args, { cwd: root, stdio: 'inherit', env: { ...process.env, ...env } })
    .status ?? 127

function install(): void {
  const apt = spawnSync('apt-get', ['--version'], { stdio: 'ignore' }).status === 0
  if (!apt || process.getuid?.() !== 0) return
  console.error('installing chromium for its software Vulkan')
  const quiet = { DEBIAN_FRONTEND: 'noninteractive' }
  if (run('apt-get', ['update', '-q'], quiet) === 0)
    run('apt-get', ['install', '-qy', '--no-install-recommends', 'chromium'], quiet)
}

const own = process.argv.includes('--gpu')
if (!own && softwareVulkan() === null) install()
const adapter = own ? {} : softwareVulkan()
if (adapter === null) {
  console.error(HOW_TO_INSTALL)
  process.exitCode = 1
} else {
  const vitest = join(root, 'node_modules', '.bin', 'vitest')
  process.exitCode = run(vitest, ['run', 'test/gpu-runner/webgpu'], {
    ...adapter,
    GRAFT_WEBGPU_REQUIRED: '1',
  })
}
