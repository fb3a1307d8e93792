const ENTITIES: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

/** For text and for quoted attributes. */
export const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (c) => ENTITIES[c]!)

/** The same, but character references that the author wrote stay what they are: `&copy;`. Never for URLs. */
export const escapeProse = (text: string): string =>
  text.replace(/&(?!(?:#\d{1,7}|#[xX][\da-fA-F]{1,6}|\w{1,31});)|[<>"']/g, (c) => ENTITIES[c]!)

/** Controls that reorder text (Unicode UAX 9) make code read otherwise than it runs: show them. */
export const showBidi = (text: string): string =>
  text.replace(
    /[\u202A-\u202E\u2066-\u2069]/g,
    (c) => `[U+${c.charCodeAt(0).toString(16).toUpperCase()}]`,
  )
