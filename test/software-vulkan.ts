/**
 * A Vulkan device without a GPU: SwiftShader, which Debian's chromium ships beside a Vulkan loader. A process must be
 * started with this environment, since the loader of shared libraries reads it once.
 */
import { existsSync } from 'node:fs'

const FOLDER = '/usr/lib/chromium'
const DRIVER = `${FOLDER}/vk_swiftshader_icd.json`

/** Variables that make SwiftShader the only adapter; null where it is not installed. */
export function softwareVulkan(): Record<string, string> | null {
  if (!existsSync(DRIVER)) return null
  const libraries = process.env['LD_LIBRARY_PATH']
  return {
    VK_ICD_FILENAMES: DRIVER,
    LD_LIBRARY_PATH: libraries ? `${FOLDER}:${libraries}` : FOLDER,
    XDG_RUNTIME_DIR: process.env['XDG_RUNTIME_DIR'] ?? '/tmp',
  }
}

export const HOW_TO_INSTALL =
  'a software Vulkan is needed: SwiftShader as Debian\'s package "chromium" ships it ' +
  '(apt-get install --no-install-recommends chromium, as root)'
