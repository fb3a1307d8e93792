import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { HOW_TO_INSTALL, softwareVulkan } from '../software-vulkan.ts'
import type { Bench } from './bench.ts'

const MEASURE = join(import.meta.dirname, 'webgpu/measure.ts')

/** What a measuring process ends with where it finds no adapter. */
const NO_ADAPTER = /ERR_NOT_INSTALLED/

/**
 * 16 rows with 16 adapters against 16 rows of the base, on the machine's own GPU or, where it has none, over a software
 * Vulkan. The loader reads the environment when a process starts, so that each try is a process of its own.
 */
export const webgpu: Bench = {
  about: 'the engine on WebGPU: 16 adapters against the base, and copies of keys and values',
  needs: `nothing with a GPU; without one ${HOW_TO_INSTALL}`,
  async run({ quick, progress }) {
    const seconds = quick ? 15 : 60
    // A shell may name the software Vulkan itself: that is no adapter of the machine's own.
    const named = /swiftshader/.test(process.env['VK_ICD_FILENAMES'] ?? '')
    const own = named ? null : await measure('full', seconds, {}, progress)
    if (own) return { ...own, adapter: "the machine's own" }
    const software = softwareVulkan()
    if (!software) throw new Error(`no WebGPU adapter: ${HOW_TO_INSTALL}`)
    progress('this machine has no adapter: measuring one layer of the shape over a software Vulkan')
    const figures = await measure('few', seconds, software, progress)
    if (!figures) throw new Error('the software Vulkan offers no adapter')
    return { ...figures, adapter: 'SwiftShader, a software Vulkan on the CPU: no figure of a GPU' }
  },
}

/** @returns null where there is no adapter */
async function measure(
  scale: 'full' | 'few',
  seconds: number,
  env: Record<string, string>,
  progress: (line: string) => void,
): Promise<Record<string, unknown> | null> {
  const child = spawn(process.execPath, [MEASURE, scale, String(seconds)], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let [out, errors] = ['', '']
  child.stdout.on('data', (text) => (out += text))
  child.stderr.on('data', (text) => (errors += text))
  const [code] = await once(child, 'close')
  if (NO_ADAPTER.test(errors)) return null
  if (code !== 0) throw new Error(`the measuring process ended with code ${code}:\n${errors}`)
  for (const line of errors.split('\n').filter(Boolean)) progress(line)
  return JSON.parse(out)
}
