/**
 * Graft over the conformance kit: node runner.ts [fixtures] writes one JSON object on stdout, an answer for each case.
 */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { openAdapter } from '@graft/convert/export-adapter.ts'
import { describeBase } from '@graft/sdk/format/base-identity.ts'
import { decodeBase64, encodeBase64 } from '@graft/sdk/format/base64url.ts'
import { heldBytes } from '@graft/sdk/format/byte-source.ts'
import { canonicalJson } from '@graft/sdk/format/canonical-json.ts'
import { deltaNorm } from '@graft/sdk/format/delta-norm.ts'
import type { Digest } from '@graft/sdk/format/digest.ts'
import { verifyDsse } from '@graft/sdk/format/dsse.ts'
import { isGraftError } from '@graft/sdk/format/errors.ts'
import { toNumbers } from '@graft/sdk/format/indices.ts'
import { thumbprint, verifyEnvelope } from '@graft/sdk/format/jws.ts'
import { ociBytes, ociManifest, ociReferrer } from '@graft/sdk/format/oci.ts'
import { manifestDigest, parseManifest } from '@graft/sdk/format/parse-manifest.ts'
import { parseModelReference } from '@graft/sdk/format/parse-reference.ts'
import { adapterProofs } from '@graft/sdk/format/proofs.ts'
import {
  parseSafetensorsHeader,
  readSafetensors,
  writeSafetensors,
} from '@graft/sdk/format/safetensors.ts'
import { parseStrictJson } from '@graft/sdk/format/strict-json.ts'
import { verifyAdapter } from '@graft/sdk/format/verify-adapter.ts'
import { evaluate, evaluateImport } from './evaluate.ts'
import { type Answer, type Case, type Kit, openKit } from './kit.ts'

const sha256 = (bytes: Uint8Array): Digest =>
  `sha256:${createHash('sha256').update(bytes).digest('hex')}` as Digest
const textBytes = (text: string): Uint8Array => new TextEncoder().encode(text)

const baseOf = (kit: Kit, given: Omit<Case, 'id' | 'kind'>) =>
  describeBase({
    name: given['name'],
    configJson: kit.read(given['config']),
    tokenizerJson: given['tokenizer'] ? kit.read(given['tokenizer']) : null,
    files: given['weights'].map((path: string) => {
      const bytes = kit.read(path)
      const file = path.slice(path.lastIndexOf('/') + 1)
      return { path: file, size: bytes.length, sha256: sha256(bytes), header: bytes }
    }),
  })

/** What each kind of case asks for. */
const KINDS: Record<string, (kit: Kit, given: Case) => Answer | Promise<Answer>> = {
  'canonical-json': (_, { input }) => ({
    text: canonicalJson(parseStrictJson(decodeBase64(input), 'input')),
  }),
  reference(_, { text }) {
    const parsed = parseModelReference(text)
    if (parsed.kind === 'base') return { reference: { base: parsed.name } }
    const terms = parsed.terms.map(({ reference, weight }) => ({ ...reference, weight }))
    return { reference: { terms } }
  },
  safetensors(kit, { file, data }) {
    const { tensors, metadata } = readSafetensors(file ? kit.read(file) : decodeBase64(data))
    const rows = [...tensors].map(([name, { dtype, shape, data: bytes }]) => {
      return { name, dtype, shape, sha256: sha256(bytes) }
    })
    return { tensors: rows.sort((a, b) => (a.name < b.name ? -1 : 1)), metadata }
  },
  'write-safetensors'(_, { tensors, metadata }) {
    const map = new Map(
      tensors.map(({ name, dtype, shape, data }: Case) => [
        name,
        { dtype, shape, data: decodeBase64(data) },
      ]),
    )
    return {
      sha256: sha256(writeSafetensors(map as Parameters<typeof writeSafetensors>[0], metadata)),
    }
  },
  async base(kit, given) {
    const { digest, identity } = await baseOf(kit, given)
    return { digest, identity }
  },
  async import(kit, given) {
    const config = JSON.parse(new TextDecoder().decode(kit.read(given['base'].config)))
    return evaluateImport(kit, given, { ...(await baseOf(kit, given['base'])), config })
  },
  manifest: async (_, { manifest }) => ({
    digest: await manifestDigest(parseManifest(textBytes(manifest))),
  }),
  async verify(kit, { manifest, weights, base }) {
    const parsed = parseManifest(kit.read(manifest))
    const { tensors } = parseSafetensorsHeader(kit.read(base))
    await verifyAdapter(parsed, heldBytes(kit.read(weights)), tensors)
    return { verified: true }
  },
  norms(kit, { manifest, weights }) {
    const { operations } = parseManifest(kit.read(manifest))
    const { tensors } = readSafetensors(kit.read(weights))
    const values = (name: string) => toNumbers(tensors.get(name)!.dtype, tensors.get(name)!.data)
    return { norms: Object.fromEntries(operations.map((op) => [op.site, deltaNorm(op, values)])) }
  },
  async fingerprint(kit, { manifest, weights }) {
    const adapter = await openAdapter(
      parseManifest(kit.read(manifest)),
      heldBytes(kit.read(weights)),
    )
    const { fingerprint } = await adapterProofs(adapter.manifest, adapter.tensors)
    return { probes: fingerprint.replace('g1:', '').split(',').map(Number) }
  },
  evaluate,
  thumbprint: async (_, { jwk }) => ({ kid: await thumbprint(jwk) }),
  async oci(_, { manifest, about, document }) {
    const adapter = await ociManifest(parseManifest(textBytes(manifest)))
    const image = about ? await ociReferrer(adapter, about, decodeBase64(document)) : adapter
    return { image, digest: sha256(ociBytes(image)) }
  },
  async jws(_, { envelope, typ, keys }) {
    const { payload, kids } = await verifyEnvelope(envelope, typ, keys)
    return { payload: encodeBase64(payload), kids }
  },
  async dsse(_, { envelope, payloadType, keys }) {
    const { payload, kids } = await verifyDsse(envelope, payloadType, keys)
    return { payload: encodeBase64(payload), kids }
  },
}

export async function answer(kit: Kit, given: Case): Promise<Answer> {
  const ask = KINDS[given.kind]
  if (!ask) return { unsupported: true }
  try {
    return await ask(kit, given)
  } catch (e) {
    if (isGraftError(e)) return { error: e.code }
    throw e
  }
}

if (process.argv[1] === import.meta.filename) {
  const kit = openKit(process.argv[2] ?? join(import.meta.dirname, 'fixtures'))
  const answers: Record<string, Answer> = {}
  for (const given of kit.cases) answers[given.id] = await answer(kit, given)
  process.stdout.write(`${JSON.stringify(answers)}\n`)
}
