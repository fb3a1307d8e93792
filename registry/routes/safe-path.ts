/** A path of this site, never another's address. @default the device page */
export const safePath = (text: string | undefined): string =>
  text !== undefined && /^\/(?![/\\])[\w\-/?=&.~%]*$/.test(text) ? text : '/device'
