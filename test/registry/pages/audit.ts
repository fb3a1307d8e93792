/**
 * What is wrong with the page for people who see little, hear it read or use no mouse: WCAG 2.2 A and AA, as far as a
 * program can tell. Runs inside the page, so it stands by itself.
 */
export function audit(): string[] {
  const faults: string[] = []
  const fail = (rule: string, element: Element) =>
    faults.push(`${rule}: ${element.outerHTML.slice(0, 100)}`)
  const all = (selector: string) => [...document.querySelectorAll(selector)]

  // 3.1.1, 2.4.2, 1.3.1, 2.4.1
  if (document.documentElement.lang !== 'en') faults.push('lang is missing')
  if (document.title === '') faults.push('title is missing')
  for (const name of ['main', 'h1', 'body > header', 'body > footer'])
    if (all(name).length !== 1) faults.push(`${all(name).length} of ${name}`)
  if (document.body.firstElementChild?.getAttribute('href') !== '#main')
    faults.push('the first thing is no link to the content')
  const ids = all('[id]').map((element) => element.id)
  if (new Set(ids).size !== ids.length) faults.push(`ids repeat: ${ids.sort()}`)

  // 1.3.1: no heading skips a level.
  let level = 0
  for (const heading of all('h1, h2, h3, h4, h5, h6')) {
    const next = Number(heading.tagName[1])
    if (next > level + 1) fail(`h${next} after h${level}`, heading)
    if (heading.textContent?.trim() === '') fail('empty heading', heading)
    level = next
  }

  // 4.1.2, 3.3.2, 2.4.4
  for (const field of all('input, select'))
    if (!(field as HTMLInputElement).labels?.length) fail('no label', field)
  for (const link of all('a, button, summary')) if (!link.textContent?.trim()) fail('no text', link)
  for (const landmark of all('nav, aside, [role=region]')) {
    const by = landmark.getAttribute('aria-labelledby')
    if (by ? !document.getElementById(by) : !landmark.getAttribute('aria-label'))
      fail('no name', landmark)
  }
  for (const link of all('a[href^="#"]'))
    if (!document.getElementById(decodeURIComponent(link.getAttribute('href')!.slice(1))))
      fail('leads nowhere', link)
  for (const header of all('table tr:first-child > th'))
    if (!header.closest('.readme') && !header.hasAttribute('scope')) fail('no scope', header)
  // 2.1.1: what scrolls must be reachable by keys.
  for (const box of all('pre, .scroll'))
    if (box.scrollWidth > box.clientWidth && (box as HTMLElement).tabIndex < 0)
      fail('scrolls for the mouse only', box)

  // 1.4.3
  const channels = (css: string) => (css.match(/[\d.]+/g) ?? []).map(Number)
  const luminance = (css: string) => {
    const [r, g, b] = channels(css).map((c) => {
      const s = c / 255
      return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4
    })
    return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!
  }
  const ground = (element: Element | null): string => {
    if (!element) return 'rgb(255, 255, 255)'
    const css = getComputedStyle(element).backgroundColor
    return channels(css)[3] === 0 ? ground(element.parentElement) : css
  }
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement!
    const box = element.getBoundingClientRect()
    if (!walker.currentNode.textContent?.trim() || box.width === 0 || box.right < 0) continue
    const style = getComputedStyle(element)
    const [a, b] = [luminance(style.color), luminance(ground(element))]
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)
    const size = Number.parseFloat(style.fontSize)
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700)
    if (ratio < (large ? 3 : 4.5)) fail(`contrast ${ratio.toFixed(2)}`, element)
  }

  // 1.4.10: nothing to scroll sideways but tables and code.
  const over = document.documentElement.scrollWidth - document.documentElement.clientWidth
  if (over > 0) faults.push(`${over} px wider than the screen`)
  return faults
}
