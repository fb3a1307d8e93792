import { decodeBase64, encodeBase64 } from '../base64url.ts'
import { concatBytes } from '../bytes.ts'
import { expected, GraftError } from '../errors.ts'
import { isKeyName, type NoteKey } from './verifier-key.ts'

/** A line of a note: which key says so, and what it says. Nothing of it is verified. */
export interface NoteSignature {
  name: string
  id: number
  /** What follows the key's id. */
  bytes: Uint8Array<ArrayBuffer>
}

export interface Note {
  /** With its last newline. */
  text: string
  signatures: NoteSignature[]
}

/** Characters; a checkpoint with a hundred cosignatures has 15,000. */
export const MAX_NOTE_LENGTH = 65_536
export const MAX_NOTE_SIGNATURES = 100

const refuse = (what: string, expects: string, got: unknown): GraftError =>
  new GraftError('ERR_SIGNATURE_INVALID', expected(what, expects, got))

/** One line, with its newline. */
export const formatSignature = ({ name, id, bytes }: NoteSignature): string => {
  const head = new Uint8Array(4)
  new DataView(head.buffer).setUint32(0, id)
  return `— ${name} ${encodeBase64(concatBytes([head, bytes]))}\n`
}

function parseSignature(line: string, at: number): NoteSignature {
  const where = `signature ${at} of the note`
  const match = /^— ([^ ]+) ([A-Za-z0-9+/=]+)$/.exec(line)
  if (!match || !isKeyName(match[1]!)) throw refuse(where, '"— <name> <base64>"', line)
  let bytes: Uint8Array<ArrayBuffer>
  try {
    bytes = decodeBase64(match[2]!, where)
  } catch (cause) {
    throw new GraftError('ERR_SIGNATURE_INVALID', (cause as Error).message, { cause })
  }
  if (bytes.length < 5) throw refuse(where, 'a key id and a signature', match[2])
  return { name: match[1]!, id: new DataView(bytes.buffer).getUint32(0), bytes: bytes.slice(4) }
}

/** C2SP signed-note. @throws ERR_SIGNATURE_INVALID for everything that is no note, or a longer one than needed */
export function parseNote(note: string): Note {
  if (note.length > MAX_NOTE_LENGTH)
    throw refuse('note', `at most ${MAX_NOTE_LENGTH} characters`, note.length)
  for (const letter of note)
    if (letter < ' ' && letter !== '\n') throw refuse('note', 'without control characters', letter)
  const end = note.lastIndexOf('\n\n')
  if (end < 0 || !note.endsWith('\n'))
    throw refuse('note', 'a text, an empty line and signature lines', note)
  const lines = note.slice(end + 2, -1).split('\n')
  if (lines.length > MAX_NOTE_SIGNATURES)
    throw refuse('note', `at most ${MAX_NOTE_SIGNATURES} signatures`, lines.length)
  return { text: note.slice(0, end + 1), signatures: lines.map(parseSignature) }
}

export const formatNote = ({ text, signatures }: Note): string =>
  `${text}\n${signatures.map(formatSignature).join('')}`

/** The first signature of a key, by name and id; null when the note has none of it. */
export const signatureOf = (note: Note, key: NoteKey): NoteSignature | null =>
  note.signatures.find(({ name, id }) => name === key.name && id === key.id) ?? null
