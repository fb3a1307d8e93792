import { importAdapter } from '@graft/convert/import-adapter.ts'
import { describeCheckpoint } from '@graft/runner/checkpoint/describe-checkpoint.ts'
import { createRegistryClient, type RegistryClient } from '@graft/sdk/client/registry-client.ts'
import { canonicalBytes } from '@graft/sdk/format/canonical-json.ts'
import { GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import { importSigningKey, type SigningKey, signEnvelope } from '@graft/sdk/format/jws.ts'
import { JWS_TYPES } from '@graft/sdk/format/manifest.ts'
import { manifestDigest } from '@graft/sdk/format/parse-manifest.ts'
import { goldensStatement } from '@graft/sdk/format/statements.ts'
import type { BaseRecord } from '@graft/sdk/protocol/registry-api.ts'
import { packageOf, TENANTS } from './demo-calls.ts'
import { progress } from './progress.ts'
import type { Sample } from './samples.ts'
import { type Secrets, saveSecrets } from './secrets.ts'
import { checkpointDir, OPERATOR } from './stack.ts'

const YEAR_SECONDS = 365 * 24 * 3600

/**
 * Organisations and call tokens of the demo, made once. The operator owns the tenants, so that a start that died
 * half-way is gone on with by the next one.
 */
export async function ensureTenants(
  registryUrl: string,
  stateDir: string,
  secrets: Secrets,
): Promise<void> {
  if (!secrets.tokens[OPERATOR]) {
    progress(`setting up the organisation ${OPERATOR}`)
    secrets.tokens[OPERATOR] = await setUp(registryUrl, stateDir, secrets.setupCode)
    await saveSecrets(stateDir, secrets)
  }
  const operator = createRegistryClient({ url: registryUrl, token: secrets.tokens[OPERATOR]! })
  for (const tenant of TENANTS) {
    if (secrets.tokens[tenant]) continue
    progress(`setting up the organisation ${tenant}`)
    await operator.createOrg(tenant).catch((error) => {
      if (!isGraftError(error) || error.code !== 'ERR_NAME_TAKEN') throw error
    })
    const key = await operator.createToken({
      org: tenant,
      name: 'demo calls',
      scopes: ['infer', 'read', 'ledger'],
      expiresIn: YEAR_SECONDS,
    })
    secrets.tokens[tenant] = key.token
    await saveSecrets(stateDir, secrets)
  }
}

async function setUp(registryUrl: string, stateDir: string, code: string): Promise<string> {
  try {
    const registry = createRegistryClient({ url: registryUrl })
    return (await registry.setup({ code, user: 'operator', org: OPERATOR })).token
  } catch (cause) {
    if (!isGraftError(cause) || cause.code !== 'ERR_SETUP_DONE') throw cause
    throw new GraftError(
      'ERR_STATE_DAMAGED',
      `the registry in ${stateDir} is set up, but its first token was never kept: remove the folder to start anew`,
      { cause },
    )
  }
}

/** Registers the base by its bytes. The digest says whether it is there already. */
export async function ensureBase(
  registryUrl: string,
  secrets: Secrets,
  samplesDir: string,
): Promise<BaseRecord> {
  const operator = createRegistryClient({ url: registryUrl, token: secrets.tokens[OPERATOR]! })
  const record = await describeCheckpoint(checkpointDir(samplesDir))
  await operator.putBase(record)
  return record
}

/**
 * Imports, signs and publishes every sample that the registry does not have, through the public API.
 * @returns how many were published now
 */
export async function ensureSamples(
  registryUrl: string,
  secrets: Secrets,
  base: BaseRecord,
  samples: Sample[],
): Promise<number> {
  const operator = createRegistryClient({ url: registryUrl, token: secrets.tokens[OPERATOR]! })
  const key = await importSigningKey(secrets.publisherKey)
  await operator.addKey(OPERATOR, key.publicJwk)
  let published = 0
  for (const sample of samples) {
    const found = await operator
      .resolve({ ref: `${packageOf(sample.name)}@1.0.0` })
      .catch((error) => {
        if (isGraftError(error) && error.status === 404) return null
        throw error
      })
    if (found && found.base.digest !== base.digest)
      throw new GraftError(
        'ERR_BASE_MISMATCH',
        `${packageOf(sample.name)}@1.0.0 in this state folder was made for another base: remove the folder, or start with --state <another>`,
      )
    if (found) continue
    await publishSample(operator, key, base, sample)
    published++
  }
  return published
}

async function publishSample(
  operator: RegistryClient,
  key: SigningKey,
  base: BaseRecord,
  sample: Sample,
): Promise<void> {
  const name = packageOf(sample.name)
  const { manifest, safetensors } = await importAdapter({
    files: sample.files,
    base,
    name,
    version: '1.0.0',
    description: sample.description,
    license: 'Apache-2.0',
  })
  const statement = goldensStatement(name, await manifestDigest(manifest), sample.goldens)
  const goldens = await signEnvelope(canonicalBytes(statement), JWS_TYPES.attestation, [key])
  const answer = await operator.publish({
    manifest,
    safetensors,
    blobs: [{ digest: sample.goldens.logits.sha256, bytes: sample.logits }],
    attestations: [goldens],
    keys: [key],
    visibility: 'public',
  })
  const kilobytes = Math.round(safetensors.length / 1024)
  const kinds = [...new Set(manifest.operations.map((operation) => operation.op))].join(' + ')
  progress(`published ${name}@1.0.0  ${kinds}, ${kilobytes} KB, ${answer.digest.slice(0, 19)}...`)
}

/** What the demo's tenants start with: one unit each, paid in once. */
export const TOP_UP_NANOS = 1_000_000_000

export const topUpId = (tenant: string): string => `demo-${tenant}-1`
