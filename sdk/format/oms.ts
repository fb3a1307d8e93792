import { encodeBase64 } from './base64url.ts'
import { concatBytes } from './bytes.ts'
import { canonicalBytes } from './canonical-json.ts'
import { type Digest, isDigest, sha256 } from './digest.ts'
import { type DsseEnvelope, openDsse, preAuthEncoding, STATEMENT_MEDIA_TYPE } from './dsse.ts'
import { expected, GraftError } from './errors.ts'
import { createGuards } from './guards.ts'
import type { SigningKey } from './jws.ts'
import type { Statement } from './manifest.ts'
import { publicKeyPem, signBytes, verifyBytes } from './raw-signature.ts'
import { parseStrictJson } from './strict-json.ts'

/**
 * OpenSSF Model Signing v1.0, the method with a key: a Sigstore bundle whose DSSE payload is an in-toto statement of
 * every file of a folder. Tools that know nothing of Graft (`model_signing verify key`) check it.
 */
export const OMS_PREDICATE = 'https://model_signing/signature/v1.0'
export const OMS_BUNDLE_TYPE = 'application/vnd.dev.sigstore.bundle.v0.3+json'

/** One file of the folder; `path` relative to it, "/" as divider. */
export interface OmsFile {
  path: string
  sha256: Digest
}

export interface OmsBundle {
  mediaType: typeof OMS_BUNDLE_TYPE
  /** `hint`: sha256, in hex, of the public key's PEM. */
  verificationMaterial: { publicKey: { hint: string }; tlogEntries: never[] }
  dsseEnvelope: DsseEnvelope
}

interface Predicate {
  serialization: {
    method: 'files'
    hash_type: 'sha256'
    allow_symlinks: false
    ignore_paths?: string[]
  }
  resources: { name: string; algorithm: 'sha256'; digest: string }[]
}

const { fail, exactly, object, string, list, oneOf } = createGuards('ERR_SIGNATURE_INVALID')

const hexOf = (digest: Digest): string => digest.slice('sha256:'.length)
const bytesOf = (hex: string): Uint8Array =>
  Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16))

/** By path components, as the reference sorts: `a/b` stands before `a-b`. */
function byPath(a: OmsFile, b: OmsFile): number {
  const [x, y] = [a.path.split('/'), b.path.split('/')]
  for (const [i, part] of x.entries()) {
    const other = y[i]
    if (other === undefined) return 1
    if (part !== other) return part < other ? -1 : 1
  }
  return x.length - y.length
}

/** sha256 over the raw digests in order: the statement's subject. */
const rootDigest = async (digests: readonly string[]): Promise<string> =>
  hexOf(await sha256(concatBytes(digests.map(bytesOf))))

async function omsStatement(
  name: string,
  files: readonly OmsFile[],
  ignored: readonly string[],
): Promise<Statement<Predicate>> {
  const sorted = [...files].sort(byPath)
  const resources = sorted.map((file) => ({
    name: file.path,
    algorithm: 'sha256' as const,
    digest: hexOf(file.sha256),
  }))
  const root = await rootDigest(resources.map(({ digest }) => digest))
  return {
    _type: 'https://in-toto.io/Statement/v1',
    subject: [{ name, digest: { sha256: root } }],
    predicateType: OMS_PREDICATE,
    predicate: {
      serialization: {
        method: 'files',
        hash_type: 'sha256',
        allow_symlinks: false,
        ...(ignored.length > 0 ? { ignore_paths: [...ignored] } : {}),
      },
      resources,
    },
  }
}

const hintOf = async (jwk: JsonWebKey): Promise<string> =>
  hexOf(await sha256(await publicKeyPem(jwk)))

/**
 * @param ignored paths that a verifier leaves out: the signature itself first of all
 * @throws ERR_KEY_UNKNOWN for a key that is not P-256: the method takes elliptic curves of NIST only
 */
export async function signOms(
  name: string,
  files: readonly OmsFile[],
  key: SigningKey,
  ignored: readonly string[] = [],
): Promise<OmsBundle> {
  if (key.alg !== 'ES256')
    throw new GraftError(
      'ERR_KEY_UNKNOWN',
      `${expected('the key of an OpenSSF model signature', 'P-256 (ES256)', key.alg)}; make one with graft keys generate --alg ES256`,
    )
  const payload = canonicalBytes(await omsStatement(name, files, ignored))
  const sig = await signBytes(key, preAuthEncoding(STATEMENT_MEDIA_TYPE, payload))
  return {
    mediaType: OMS_BUNDLE_TYPE,
    verificationMaterial: { publicKey: { hint: await hintOf(key.publicJwk) }, tlogEntries: [] },
    dsseEnvelope: {
      payload: encodeBase64(payload),
      payloadType: STATEMENT_MEDIA_TYPE,
      signatures: [{ keyid: key.kid, sig: encodeBase64(sig) }],
    },
  }
}

/**
 * The files that a bundle vouches for; the caller compares them with the folder.
 * @throws ERR_SIGNATURE_INVALID, ERR_KEY_UNKNOWN
 */
export async function verifyOms(
  bundle: OmsBundle,
  jwk: JsonWebKey,
): Promise<{ name: string; files: OmsFile[]; ignored: string[] }> {
  const { mediaType, verificationMaterial, dsseEnvelope } = object(bundle, 'bundle')
  oneOf(mediaType, 'bundle.mediaType', [OMS_BUNDLE_TYPE])
  const { publicKey } = object(verificationMaterial, 'bundle.verificationMaterial')
  const { hint } = object(publicKey, 'bundle.verificationMaterial.publicKey')
  if (hint !== (await hintOf(jwk)))
    throw new GraftError('ERR_KEY_UNKNOWN', `the bundle names key ${hint}, which is another`)
  const opened = openDsse(dsseEnvelope as DsseEnvelope, STATEMENT_MEDIA_TYPE)
  for (const { sig } of opened.signatures) await verifyBytes(jwk, sig, opened.signed)
  return parseOmsStatement(opened.payload)
}

async function parseOmsStatement(payload: Uint8Array) {
  const json = parseStrictJson(payload, 'statement', 'ERR_SIGNATURE_INVALID')
  const statement = exactly(json, 'statement', ['_type', 'subject', 'predicateType', 'predicate'])
  oneOf(statement['_type'], 'statement._type', ['https://in-toto.io/Statement/v1'])
  oneOf(statement['predicateType'], 'statement.predicateType', [OMS_PREDICATE])
  const subjects = list(statement['subject'], 'statement.subject')
  if (subjects.length !== 1) fail('statement.subject', 'one subject', subjects.length)
  const subject = exactly(subjects[0], 'statement.subject[0]', ['name', 'digest'])
  const { sha256: root } = object(subject['digest'], 'statement.subject[0].digest')
  // Of the predicate v1.0 says that other members are to be ignored.
  const predicate = object(statement['predicate'], 'predicate')
  const serialization = object(predicate['serialization'], 'predicate.serialization')
  oneOf(serialization['method'], 'predicate.serialization.method', ['files'])
  oneOf(serialization['hash_type'], 'predicate.serialization.hash_type', ['sha256'])
  const ignored = list(serialization['ignore_paths'] ?? [], 'predicate.serialization.ignore_paths')
  const files = list(predicate['resources'], 'predicate.resources').map((item, i): OmsFile => {
    const where = `predicate.resources[${i}]`
    const row = exactly(item, where, ['name', 'algorithm', 'digest'])
    oneOf(row['algorithm'], `${where}.algorithm`, ['sha256'])
    const digest = `sha256:${row['digest']}`
    if (!isDigest(digest)) return fail(`${where}.digest`, '64 hex digits', row['digest'])
    return { path: string(row['name'], `${where}.name`), sha256: digest }
  })
  if (new Set(files.map(({ path }) => path)).size !== files.length)
    fail('predicate.resources', 'named once each', files.length)
  const want = await rootDigest(files.map((file) => hexOf(file.sha256)))
  if (root !== want) fail('statement.subject[0].digest.sha256', want, root)
  return {
    name: string(subject['name'], 'statement.subject[0].name'),
    files,
    ignored: ignored.map((path, i) => string(path, `ignore_paths[${i}]`)),
  }
}
