/** "1.4 MB": decimal units, as disks and networks are sold. */
export function sizeText(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  const at = Math.min(bytes < 1 ? 0 : Math.floor(Math.log10(bytes) / 3), units.length - 1)
  const value = bytes / 1000 ** at
  return `${at === 0 ? value : value.toFixed(value < 10 ? 2 : 1)} ${units[at]}`
}

export const countText = (count: number): string => count.toLocaleString('en-US')

export const plural = (count: number, one: string, many = `${one}s`): string =>
  `${countText(count)} ${count === 1 ? one : many}`

/** First 12 hex digits: enough to tell two apart by eye; never to check by. */
export const shortDigest = (digest: string): string => digest.slice(0, 'sha256:'.length + 12)

/** Paths keep their `@` and `/`; all else of a name that a path could misread is encoded. */
export const packagePath = (name: string): string =>
  `/${name.split('/').map(encodeURIComponent).join('/').replace('%40', '@')}`
export const versionPath = (name: string, version: string): string =>
  `${packagePath(name)}/v/${encodeURIComponent(version)}`
export const basePath = (digest: string): string => `/bases/${digest}`
