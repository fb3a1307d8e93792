import fc from 'fast-check'

const pieces = fc.constantFrom(
  ...[
    '<',
    '>',
    '"',
    "'",
    '&',
    '`',
    '*',
    '_',
    '~',
    '[',
    ']',
    '(',
    ')',
    '!',
    '#',
    '\n',
    ' ',
    '|',
    '-',
  ],
  ...[
    '<script>',
    '</script>',
    '<!--',
    '-->',
    '<a href=',
    'javascript:',
    'https://x',
    'onclick=',
    '&#60;',
    '\\',
  ],
  ...[
    '1. ',
    '- [ ] ',
    '> ',
    '```',
    '\t',
    '\u202E',
    'data:',
    '<style>',
    '<svg/onload=',
    '[a]: ',
    'www.x.y',
  ],
)

/** Markdown as somebody would write it who wants a tag of their own in the page. */
export const hostileMarkdown = fc
  .array(fc.oneof(pieces, fc.string({ maxLength: 4 })), { maxLength: 60 })
  .map((parts) => parts.join(''))
