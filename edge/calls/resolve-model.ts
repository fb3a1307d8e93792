import type { Digest } from '@graft/sdk/format/digest.ts'
import { GraftError } from '@graft/sdk/format/errors.ts'
import type { OperationKind } from '@graft/sdk/format/operations.ts'
import { formatAdapterReference, parseModelReference } from '@graft/sdk/format/parse-reference.ts'
import type { AdapterPull } from '@graft/sdk/protocol/runner-api.ts'
import type { Caller } from '../auth/authenticate.ts'
import { type Fleet, liveBases, type Runner } from '../fleet/fleet.ts'
import type { PricedAdapter } from '../ledger/prices.ts'
import type { RegistryClient } from '../upstream/registry-client.ts'

/** `model` as digests, with the right to pull every adapter. */
export interface ResolvedModel {
  base: { name: string; digest: Digest }
  adapters: (AdapterPull & PricedAdapter)[]
  /** Every kind of operation that the adapters are made of. */
  operations: OperationKind[]
}

/** @throws ERR_REFERENCE_INVALID, ERR_MODEL_UNKNOWN, ERR_NO_RUNNER, ERR_NOT_COMPOSABLE, and what the registry says */
export async function resolveModel(
  { fleet, registry }: { fleet: Fleet; registry: RegistryClient },
  caller: Caller,
  model: string,
): Promise<ResolvedModel> {
  const reference = parseModelReference(model)
  const runners = await fleet.runners()
  const bases = liveBases(runners)
  if (reference.kind === 'base') {
    const base = bases.find(({ name }) => name === reference.name)
    if (base) return { base, adapters: [], operations: [] }
    throw bases.length === 0
      ? noRunner(`base "${reference.name}"`)
      : new GraftError(
          'ERR_MODEL_UNKNOWN',
          `no base is called "${reference.name}" here; GET /v1/models lists what is`,
        )
  }
  // With one base in the fleet a range means "the newest that this base can serve".
  let base = bases.length === 1 ? bases[0]! : null
  const adapters: ResolvedModel['adapters'] = []
  const operations = new Set<OperationKind>()
  for (const term of reference.terms) {
    const text = formatAdapterReference(term.reference)
    const abilities = base ? { base: base.digest, operations: known(runners, base.digest) } : null
    const found = await registry.resolve(caller, text, abilities)
    const { selector } = term.reference
    if (selector.kind === 'digest' && found.digest !== selector.digest)
      throw new GraftError(
        'ERR_DIGEST_MISMATCH',
        `the registry resolved ${text} to ${found.digest}; a digest names one version only`,
      )
    if (base && found.base.digest !== base.digest)
      throw new GraftError(
        adapters.length > 0 ? 'ERR_NOT_COMPOSABLE' : 'ERR_BASE_MISMATCH',
        `${text} is for base ${found.base.name} (${found.base.digest}), this call runs on ${base.name} (${base.digest})`,
      )
    base ??= found.base
    for (const operation of found.operations) operations.add(operation)
    adapters.push({
      digest: found.digest,
      weight: term.weight,
      label: `${found.name}@${found.version}`,
      package: found.name,
      capability: await registry.capability(caller, found.digest),
    })
  }
  const wanted = base!.digest
  if (!bases.some(({ digest }) => digest === wanted))
    throw noRunner(`base "${base!.name}" (${wanted}), which ${model} needs`)
  return { base: base!, adapters, operations: [...operations] }
}

const noRunner = (what: string) =>
  new GraftError('ERR_NO_RUNNER', `no live runner serves ${what}; start one, or try again`, {
    retryAfter: 2,
  })

/** What at least one runner of the base can do, in a stable order: it is part of a cache key. */
const known = (runners: Runner[], base: Digest): OperationKind[] =>
  [
    ...new Set(
      runners.flatMap(({ status }) => (status.base.digest === base ? status.operations : [])),
    ),
  ].sort()
