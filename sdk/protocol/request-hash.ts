import { canonicalJson } from '../format/canonical-json.ts'
import { type Digest, sha256 } from '../format/digest.ts'
import type { RequestFacts } from './receipts.ts'
import type { GenerateRequest } from './runner-api.ts'

export type HashedRequest = Pick<
  GenerateRequest,
  'base' | 'adapters' | 'prompt' | 'sampling' | 'maxTokens' | 'n'
>

/** Everything of a request that decides its answer; labels, capabilities and deadlines do not. */
export const requestFacts = (request: HashedRequest): RequestFacts => ({
  base: request.base,
  adapters: request.adapters.map(({ digest, weight }) => ({ digest, weight })),
  prompt: canonicalJson(request.prompt),
  sampling: { ...request.sampling, maxTokens: request.maxTokens, n: request.n },
})

/**
 * sha256 of the canonical JSON of the request's facts. Edge, runner and SDK each compute it alone:
 * equal hashes mean that the answer on the receipt is the answer to this request.
 */
export const requestHash = (request: HashedRequest): Promise<Digest> =>
  sha256(canonicalJson(requestFacts(request)))
