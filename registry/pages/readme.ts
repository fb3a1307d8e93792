import type { Token, Tokens } from 'marked'
import { escapeHtml, escapeProse, showBidi } from './escape.ts'
import { parseMarkdown } from './markdown.ts'
import { safeHref } from './safe-href.ts'
import { textOfHtml } from './text-of-html.ts'

/** Below the page's h1 and the section's h2. */
const FIRST_LEVEL = 3
/** Links of strangers: search engines are told not to follow, the other side not who came. */
const REL = 'nofollow ugc noopener noreferrer'

/** What headings need to know of those before them. */
interface Outline {
  level: number
  ids: Map<string, number>
}

/**
 * A README as HTML that only this file writes: every tag below is a literal, every text is escaped, raw HTML is read for
 * its text, images become links (nothing is loaded from elsewhere), and headings go on below the page's own without a gap.
 */
export function renderReadme(markdown: string): string {
  const outline: Outline = { level: FIRST_LEVEL - 1, ids: new Map() }
  return blocks(parseMarkdown(markdown), outline)
}

const blocks = (tokens: readonly Token[], outline: Outline): string =>
  tokens.map((token) => block(token, outline)).join('')

function block(token: Token, outline: Outline): string {
  switch (token.type) {
    case 'space':
    case 'def':
    case 'checkbox':
      return ''
    case 'hr':
      return '<hr>'
    case 'heading':
      return heading(token as Tokens.Heading, outline)
    case 'code':
      return `<pre tabindex="0"><code>${escapeHtml(showBidi(token['text']))}</code></pre>`
    case 'blockquote':
      return `<blockquote dir="auto">${blocks(token['tokens'] ?? [], outline)}</blockquote>`
    case 'list':
      return list(token as Tokens.List, outline)
    case 'table':
      return table(token as Tokens.Table)
    case 'html':
      return paragraph(escapeProse(textOfHtml(token['text']).trim()))
    case 'paragraph':
      return paragraph(inlines(token['tokens']))
    default:
      return inline(token)
  }
}

const paragraph = (inner: string): string => (inner === '' ? '' : `<p dir="auto">${inner}</p>`)

function heading({ depth, tokens, text }: Tokens.Heading, outline: Outline): string {
  outline.level = Math.min(depth + FIRST_LEVEL - 1, outline.level + 1, 6)
  const slug = slugOf(text)
  const seen = outline.ids.get(slug) ?? 0
  outline.ids.set(slug, seen + 1)
  const id = seen === 0 ? slug : `${slug}-${seen}`
  return `<h${outline.level} id="readme-${id}" dir="auto">${inlines(tokens)}</h${outline.level}>`
}

/** As GitHub makes them, so that a README's own table of contents works. */
const slugOf = (text: string): string =>
  escapeHtml(
    text
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .trim()
      .replace(/\s/g, '-')
      .slice(0, 80),
  )

function list({ ordered, start, items }: Tokens.List, outline: Outline): string {
  const rows = items.map(({ task, checked, tokens }) => {
    const box = task ? (checked ? '☑ ' : '☐ ') : ''
    return `<li dir="auto"${task ? ' class="task"' : ''}>${box}${blocks(tokens, outline)}</li>`
  })
  const from = ordered && Number.isSafeInteger(start) && start !== 1 ? ` start="${start}"` : ''
  const tag = ordered ? 'ol' : 'ul'
  return `<${tag}${from}>${rows.join('')}</${tag}>`
}

function table({ header, rows }: Tokens.Table): string {
  const cells = (row: Tokens.TableCell[], tag: string) =>
    `<tr>${row.map((cell) => `<${tag} dir="auto">${inlines(cell.tokens)}</${tag}>`).join('')}</tr>`
  const body = rows.map((row) => cells(row, 'td')).join('')
  return `<div class="scroll" tabindex="0"><table><thead>${cells(header, 'th')}</thead><tbody>${body}</tbody></table></div>`
}

const inlines = (tokens: readonly Token[] | undefined): string =>
  (tokens ?? []).map(inline).join('')

function inline(token: Token): string {
  switch (token.type) {
    case 'strong':
    case 'em':
    case 'del':
      return `<${token.type}>${inlines(token['tokens'])}</${token.type}>`
    case 'codespan':
      return `<code>${escapeHtml(showBidi(token['text']))}</code>`
    case 'br':
      return '<br>'
    case 'link':
      return link(token['href'], inlines(token['tokens']))
    case 'image':
      return link(token['href'], `[image: ${escapeProse(token['text'] || 'no description')}]`)
    case 'html':
      return /^<br\s*\/?>$/i.test(token['text']) ? '<br>' : ''
    case 'checkbox':
      return ''
    case 'escape':
      return escapeProse(token['text'])
    case 'text': {
      const { tokens, text } = token as Tokens.Text
      return tokens ? inlines(tokens) : escapeProse(text)
    }
    default:
      return escapeHtml(token.raw)
  }
}

function link(href: string, inner: string): string {
  if (href.startsWith('#')) return `<a href="#readme-${escapeHtml(href.slice(1))}">${inner}</a>`
  const safe = safeHref(href)
  return safe === null ? inner : `<a href="${escapeHtml(safe)}" rel="${REL}">${inner}</a>`
}
