import { canonicalBytes } from './canonical-json.ts'
import type { Digest } from './digest.ts'
import { isDigest } from './digest.ts'
import { createGuards, type Fields } from './guards.ts'
import { GOLDENS_PREDICATE, type Goldens, type Statement } from './manifest.ts'
import { parseStrictJson } from './strict-json.ts'

const STATEMENT_TYPE = 'https://in-toto.io/Statement/v1'

/** Far above goldens of many prompts: their logits stand in a blob, not here. */
export const MAX_STATEMENT_BYTES = 4 * 1024 * 1024

const { fail, exactly, object, string, list, integer } = createGuards('ERR_MANIFEST_INVALID')

/** An in-toto Statement v1 about one manifest. */
export const createStatement = <P>(
  name: string,
  digest: Digest,
  predicateType: string,
  predicate: P,
): Statement<P> => ({
  _type: STATEMENT_TYPE,
  subject: [{ name, digest: { sha256: digest.slice('sha256:'.length) } }],
  predicateType,
  predicate,
})

/** Goldens of the manifest called `name` whose digest is `digest`. */
export const goldensStatement = (
  name: string,
  digest: Digest,
  goldens: Goldens,
): Statement<Goldens> => createStatement(name, digest, GOLDENS_PREDICATE, goldens)

export const statementBytes = (statement: Statement): Uint8Array<ArrayBuffer> =>
  canonicalBytes(statement)

/** The statement speaks of this manifest. */
export const isAbout = (statement: Statement, digest: Digest): boolean =>
  statement.subject.some((subject) => `sha256:${subject.digest.sha256}` === digest)

/**
 * Goldens are checked to the last field; another predicate must only be an object.
 * @throws ERR_MANIFEST_INVALID
 */
export function parseStatement(bytes: Uint8Array): Statement {
  if (bytes.length > MAX_STATEMENT_BYTES)
    fail('statement', `at most ${MAX_STATEMENT_BYTES} bytes`, bytes.length)
  const json = parseStrictJson(bytes, 'statement', 'ERR_MANIFEST_INVALID')
  const names = ['_type', 'subject', 'predicateType', 'predicate']
  const statement = exactly(json, 'statement', names)
  if (statement['_type'] !== STATEMENT_TYPE)
    fail('statement._type', STATEMENT_TYPE, statement['_type'])
  const subjects = list(statement['subject'], 'statement.subject')
  if (subjects.length === 0) fail('statement.subject', 'at least one subject', subjects)
  for (const [i, item] of subjects.entries()) {
    const where = `statement.subject[${i}]`
    const subject = exactly(item, where, ['name', 'digest'])
    string(subject['name'], `${where}.name`)
    const { sha256 } = object(subject['digest'], `${where}.digest`)
    if (!isDigest(`sha256:${sha256}`)) fail(`${where}.digest.sha256`, '64 hex digits', sha256)
  }
  string(statement['predicateType'], 'statement.predicateType')
  const predicate = object(statement['predicate'], 'statement.predicate')
  if (statement['predicateType'] === GOLDENS_PREDICATE) parseGoldens(predicate)
  return statement as unknown as Statement
}

const tokenIds = (value: unknown, where: string): number[] =>
  list(value, where).map((id, i) => integer(id, `${where}[${i}]`, 0))

/** @throws ERR_MANIFEST_INVALID */
export function parseGoldens(value: unknown): Goldens {
  const goldens = exactly(value, 'goldens', ['producer', 'basePrecision', 'logits', 'prompts'])
  string(goldens['producer'], 'goldens.producer')
  string(goldens['basePrecision'], 'goldens.basePrecision')
  const logits = exactly(goldens['logits'], 'goldens.logits', ['sha256', 'size'])
  if (!isDigest(logits['sha256']))
    fail('goldens.logits.sha256', '"sha256:" and 64 hex digits', logits['sha256'])
  integer(logits['size'], 'goldens.logits.size', 1)
  const prompts = list(goldens['prompts'], 'goldens.prompts')
  if (prompts.length === 0) fail('goldens.prompts', 'at least one prompt', prompts)
  prompts.forEach(parsePrompt)
  return goldens as unknown as Goldens
}

function parsePrompt(value: unknown, index: number): void {
  const where = `goldens.prompts[${index}]`
  const prompt: Fields = exactly(value, where, ['tokenIds', 'positions', 'greedy'])
  const ids = tokenIds(prompt['tokenIds'], `${where}.tokenIds`)
  if (ids.length === 0) fail(`${where}.tokenIds`, 'at least one token', ids)
  const positions = tokenIds(prompt['positions'], `${where}.positions`)
  if (positions.some((p, i) => p >= ids.length || (i > 0 && p <= positions[i - 1]!)))
    fail(`${where}.positions`, `ascending and below ${ids.length}`, positions)
  const greedy = exactly(prompt['greedy'], `${where}.greedy`, ['tokenIds', 'margins'])
  const next = tokenIds(greedy['tokenIds'], `${where}.greedy.tokenIds`)
  const margins = list(greedy['margins'], `${where}.greedy.margins`)
  if (margins.length !== next.length || !margins.every((m) => typeof m === 'number' && m >= 0))
    fail(`${where}.greedy.margins`, `${next.length} numbers >= 0`, margins)
}
