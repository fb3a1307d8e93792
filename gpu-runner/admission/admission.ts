import { type Digest, sha256 } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { type SigningKey, signEnvelope, verifyEnvelope } from '@graft/sdk/format/jws.ts'
import { ADMISSION_PREDICATE, type SignedEnvelope } from '@graft/sdk/format/manifest.ts'
import {
  createStatement,
  isAbout,
  parseStatement,
  statementBytes,
} from '@graft/sdk/format/statements.ts'
import type { EngineInfo } from '../engine/engine.ts'
import { MERGE_HINT } from '../engine/rules.ts'
import { type AdapterFacts, labelOf } from '../tiers/adapter-facts.ts'
import type { DiskCache } from '../tiers/disk-cache.ts'
import { type GoldensReport, reproduceGoldens, type Score } from './goldens.ts'

/** 'goldens': what cannot be proven is not served. 'allow-unproven': served, and marked so. */
export type AdmissionPolicy = 'goldens' | 'allow-unproven'

/** Predicate of an admission: this adapter on this base in this build of the engine. */
export interface AdmissionResult {
  base: Digest
  build: string
  proven: boolean
  goldens: GoldensReport | null
  at: string
}

const NOTES = 'admissions'

/**
 * What can be refused without running anything.
 * @throws ERR_BASE_MISMATCH, ERR_OPERATION_UNSUPPORTED
 */
export function checkFit(facts: AdapterFacts, engine: EngineInfo): void {
  const { base, operations } = facts
  if (base.digest !== engine.base.digest)
    throw new GraftError(
      'ERR_BASE_MISMATCH',
      `${labelOf(facts)} must be made for base ${engine.base.name} (${engine.base.digest}), got ${base.name} (${base.digest})`,
    )
  const missing = operations.find(({ op }) => !engine.operations.includes(op))
  if (missing)
    throw new GraftError(
      'ERR_OPERATION_UNSUPPORTED',
      missing.op === 'dense'
        ? `${labelOf(facts)} needs dense at ${missing.site}: ${MERGE_HINT}`
        : `${labelOf(facts)} needs ${missing.op} at ${missing.site}, which this runner does not support (it has ${engine.operations.join(', ')})`,
    )
}

export interface AdmissionDeps {
  engine: EngineInfo
  disk: DiskCache
  key: SigningKey
  policy: AdmissionPolicy
  clock: () => Date
}

export interface Admission {
  /** A result that this runner signed earlier for these very bytes, base and build; null when there is none. */
  recall(digest: Digest): Promise<AdmissionResult | null>
  /**
   * Reproduces the goldens and signs what came out.
   * @throws ERR_ADMISSION_FAILED
   */
  prove(facts: AdapterFacts, logits: Uint8Array | null, score: Score): Promise<AdmissionResult>
}

export function createAdmission({ engine, disk, key, policy, clock }: AdmissionDeps): Admission {
  const note = async (digest: Digest): Promise<string> =>
    `${await sha256(`${digest}\n${engine.base.digest}\n${engine.build}`)}.json`

  async function read(bytes: Uint8Array, digest: Digest): Promise<AdmissionResult | null> {
    const envelope = JSON.parse(new TextDecoder().decode(bytes)) as SignedEnvelope
    const keys = [key.publicJwk]
    const { payload } = await verifyEnvelope(envelope, 'graft-attestation+jws', keys)
    const statement = parseStatement(payload)
    const result = statement.predicate as AdmissionResult
    const fits =
      statement.predicateType === ADMISSION_PREDICATE &&
      isAbout(statement, digest) &&
      result.base === engine.base.digest &&
      result.build === engine.build
    return fits ? result : null
  }

  return {
    async recall(digest) {
      const name = await note(digest)
      const bytes = await disk.note(NOTES, name)
      if (!bytes) return null
      // A result that does not verify is no result: the goldens run again.
      const result = await read(bytes, digest).catch(() => null)
      if (!result) await disk.removeNote(NOTES, name)
      // A stricter policy than the one it was admitted under asks again.
      return result && (result.proven || policy === 'allow-unproven') ? result : null
    },

    async prove(facts, logits, score) {
      const { digest, goldens, name } = facts
      if ((!goldens || !logits) && policy === 'goldens')
        throw new GraftError(
          'ERR_ADMISSION_FAILED',
          `goldens: ${labelOf(facts)} has none, and this runner serves only what it can prove; publish it with goldens or start the runner with --policy allow-unproven`,
        )
      const report =
        goldens && logits ? await reproduceGoldens(goldens, logits, engine, score) : null
      const result: AdmissionResult = {
        base: engine.base.digest,
        build: engine.build,
        proven: report !== null,
        goldens: report,
        at: clock().toISOString(),
      }
      const statement = createStatement(name, digest, ADMISSION_PREDICATE, result)
      const envelope = await signEnvelope(statementBytes(statement), 'graft-attestation+jws', [key])
      const bytes = new TextEncoder().encode(JSON.stringify(envelope))
      // What cannot be kept is proven again after a restart; it is proven all the same.
      await disk
        .putNote(NOTES, await note(digest), bytes)
        .catch((e) => process.emitWarning(`the disk tier cannot keep an admission: ${e}`))
      return result
    },
  }
}
