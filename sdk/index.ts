/** The public list of @graft/sdk. Deeper paths (`@graft/sdk/format/...`) are for tools that build on the format. */
export type { AnswerStream } from './client/answer-stream.ts'
export type { ClientOptions } from './client/http.ts'
export {
  type Answer,
  type CallOptions,
  createInferenceClient,
  type InferenceClient,
  type InferenceOptions,
  type InferenceTimeouts,
} from './client/inference-client.ts'
export { createLedgerClient, type LedgerClient } from './client/ledger-client.ts'
export { formatLock, type Lock, type LockedAdapter, parseLock } from './client/lock.ts'
export type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatMessageParam,
  ChatParams,
  Completion,
  CompletionChunk,
  CompletionParams,
  Model,
  Usage,
} from './client/openai-types.ts'
export type { Published, PublishOptions, PublishProgress } from './client/publish.ts'
export {
  createRegistryClient,
  type PulledAdapter,
  type PullOptions,
  type RegistryClient,
  type ResolveOptions,
} from './client/registry-client.ts'
export { type CheckpointPolicy, verifyCheckpoint } from './client/verify-checkpoint.ts'
export {
  type CheckedLog,
  checkLog,
  followLog,
  type LogMemory,
  type VerifiedLogProof,
  verifyLogProof,
} from './client/verify-log.ts'
export { type VerifiedReceipt, verifyCharge, verifyReceipt } from './client/verify-receipt.ts'
export { type VerifiedVersion, verifyVersion } from './client/verify-version.ts'
export { type Digest, isDigest, parseDigest, sha256 } from './format/digest.ts'
export {
  ERRORS,
  type ErrorBody,
  type ErrorCode,
  EXIT,
  GraftError,
  isGraftError,
} from './format/errors.ts'
export {
  exportSigningKey,
  generateSigningKey,
  importSigningKey,
  type SigningKey,
  signEnvelope,
  thumbprint,
} from './format/jws.ts'
export {
  type BaseIdentity,
  type Goldens,
  JWS_TYPES,
  type Manifest,
  type SignedEnvelope,
  type Statement,
} from './format/manifest.ts'
export type { Operation, OperationKind } from './format/operations.ts'
export { manifestDigest, parseManifest } from './format/parse-manifest.ts'
export { parseAdapterReference, parseModelReference } from './format/parse-reference.ts'
export { goldensStatement, statementBytes } from './format/statements.ts'
export { verifyAdapter } from './format/verify-adapter.ts'
export type { Balance, LedgerEntry, TopUpRequest } from './protocol/ledger.ts'
export { NANOS_PER_UNIT } from './protocol/ledger.ts'
export type { Receipt, ReceiptKeys, RunnerReceipt } from './protocol/receipts.ts'
export type {
  BaseRecord,
  PackageRecord,
  PackageSummary,
  PublisherKey,
  Resolution,
  VersionRecord,
  Visibility,
  WhoAmI,
} from './protocol/registry-api.ts'
export { SCOPES, type Scope } from './protocol/tokens.ts'
