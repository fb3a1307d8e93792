/** What a reader would see of raw HTML: no tags, no comments, nothing of scripts and styles. One pass; to be escaped. */
export function textOfHtml(html: string): string {
  const lower = html.toLowerCase()
  let text = ''
  let at = 0
  while (at < html.length) {
    const open = html.indexOf('<', at)
    if (open < 0) return text + html.slice(at)
    text += html.slice(at, open)
    const silent = ['script', 'style'].find((name) => lower.startsWith(name, open + 1))
    const end = lower.startsWith('<!--', open) ? '-->' : silent ? `</${silent}` : '>'
    const close = lower.indexOf(end, open)
    if (close < 0) return text
    at = silent ? lower.indexOf('>', close) + 1 || html.length : close + end.length
  }
  return text
}
