const SCHEMES = new Set(['http:', 'https:', 'mailto:'])

/** An absolute link to the web or to a mailbox as the URL parser writes it; null for all else (`javascript:`, relative paths). */
export function safeHref(href: string): string | null {
  try {
    const url = new URL(href.replaceAll('&amp;', '&'))
    return SCHEMES.has(url.protocol) ? url.href : null
  } catch {
    return null
  }
}
