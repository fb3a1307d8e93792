/**
 * The closed union of error codes, and all that is known of each: its HTTP status and the CLI's exit code.
 * It lives in the lowest room because format code throws too; every other room imports it from here.
 */

/** Exit codes of the CLI and of `npm start`, by kind of failure. */
export const EXIT = {
  ok: 0,
  failure: 1,
  usage: 2,
  notFound: 3,
  auth: 4,
  integrity: 5,
  conflict: 6,
  limit: 7,
  unavailable: 8,
  unsupported: 9,
} as const

const row = (status: number, kind: keyof typeof EXIT) => ({ status, exit: EXIT[kind] }) as const

export const ERRORS = {
  // what the caller sent
  ERR_REQUEST_INVALID: row(400, 'usage'),
  ERR_REFERENCE_INVALID: row(400, 'usage'),
  ERR_DIGEST_INVALID: row(400, 'usage'),
  ERR_JSON_INVALID: row(400, 'usage'),
  ERR_BODY_TOO_LARGE: row(413, 'limit'),
  ERR_PROMPT_TOO_LONG: row(400, 'limit'),
  ERR_ROUTE_UNKNOWN: row(404, 'notFound'),
  // files and the format
  ERR_MANIFEST_INVALID: row(422, 'integrity'),
  ERR_CRITICAL_UNKNOWN: row(422, 'unsupported'),
  ERR_SAFETENSORS_INVALID: row(422, 'integrity'),
  ERR_TENSOR_MISSING: row(422, 'integrity'),
  ERR_TENSOR_UNMATCHED: row(422, 'integrity'),
  ERR_TENSOR_SHAPE: row(422, 'integrity'),
  ERR_WEIGHTS_NON_FINITE: row(422, 'integrity'),
  ERR_ZERO_EFFECT: row(422, 'integrity'),
  ERR_SOURCE_UNKNOWN: row(422, 'unsupported'),
  ERR_CONFIG_UNKNOWN_KEY: row(422, 'unsupported'),
  ERR_CONFIG_INVALID: row(422, 'integrity'),
  ERR_METHOD_UNSUPPORTED: row(422, 'unsupported'),
  ERR_PICKLE_REFUSED: row(422, 'unsupported'),
  ERR_BASE_MUTATED: row(422, 'unsupported'),
  ERR_CHECKPOINT_INVALID: row(422, 'integrity'),
  ERR_ARCHITECTURE_UNSUPPORTED: row(422, 'unsupported'),
  // identity of bytes and of people
  ERR_DIGEST_MISMATCH: row(422, 'integrity'),
  ERR_SIGNATURE_INVALID: row(422, 'integrity'),
  ERR_KEY_UNKNOWN: row(422, 'integrity'),
  ERR_KEY_REVOKED: row(403, 'auth'),
  ERR_BASE_MISMATCH: row(409, 'integrity'),
  ERR_UNAUTHENTICATED: row(401, 'auth'),
  ERR_TOKEN_EXPIRED: row(401, 'auth'),
  ERR_FORBIDDEN: row(403, 'auth'),
  // the registry
  ERR_PACKAGE_UNKNOWN: row(404, 'notFound'),
  ERR_VERSION_UNKNOWN: row(404, 'notFound'),
  ERR_RANGE_UNSATISFIED: row(404, 'notFound'),
  ERR_BLOB_UNKNOWN: row(404, 'notFound'),
  ERR_BASE_UNKNOWN: row(404, 'notFound'),
  ERR_NAME_UNKNOWN: row(404, 'notFound'),
  ERR_VERSION_EXISTS: row(409, 'conflict'),
  ERR_NAME_TAKEN: row(409, 'conflict'),
  ERR_PUBLISH_STATE: row(409, 'conflict'),
  ERR_SETUP_DONE: row(409, 'conflict'),
  ERR_QUOTA_EXCEEDED: row(429, 'limit'),
  // serving
  ERR_MODEL_UNKNOWN: row(404, 'notFound'),
  ERR_NOT_COMPOSABLE: row(422, 'unsupported'),
  ERR_OPERATION_UNSUPPORTED: row(422, 'unsupported'),
  ERR_ADMISSION_FAILED: row(422, 'integrity'),
  ERR_NO_RUNNER: row(503, 'unavailable'),
  ERR_RUNNER_FAILED: row(502, 'unavailable'),
  ERR_RUNNER_UNTRUSTED: row(502, 'integrity'),
  ERR_OVERLOADED: row(503, 'unavailable'),
  ERR_DEADLINE: row(504, 'unavailable'),
  ERR_CANCELLED: row(499, 'failure'),
  ERR_NON_FINITE: row(500, 'failure'),
  ERR_BANK_FULL: row(503, 'unavailable'),
  // money
  ERR_NO_BALANCE: row(402, 'limit'),
  ERR_RATE_LIMITED: row(429, 'limit'),
  ERR_IDEMPOTENCY_IN_FLIGHT: row(409, 'conflict'),
  ERR_IDEMPOTENCY_MISMATCH: row(422, 'conflict'),
  ERR_LEDGER_UNAVAILABLE: row(503, 'unavailable'),
  ERR_LEDGER_RANGE: row(400, 'limit'),
  ERR_HOLD_UNKNOWN: row(404, 'notFound'),
  ERR_HOLD_RESOLVED: row(409, 'conflict'),
  ERR_HOLD_EXCEEDED: row(409, 'conflict'),
  ERR_ALREADY_POSTED: row(409, 'conflict'),
  ERR_RECEIPT_UNKNOWN: row(404, 'notFound'),
  ERR_RECEIPT_INVALID: row(422, 'integrity'),
  // the client's side
  ERR_STREAM_TRUNCATED: row(502, 'unavailable'),
  ERR_UNREACHABLE: row(503, 'unavailable'),
  ERR_TIMEOUT: row(504, 'unavailable'),
  // the machine
  ERR_PORT_TAKEN: row(500, 'unavailable'),
  ERR_NODE_TOO_OLD: row(500, 'unsupported'),
  ERR_STATE_DAMAGED: row(500, 'integrity'),
  ERR_NOT_INSTALLED: row(500, 'unsupported'),
  ERR_INTERNAL: row(500, 'failure'),
} as const

export type ErrorCode = keyof typeof ERRORS

/** The one body every Graft surface answers an error with (`type` and `param` are what OpenAI clients read). */
export interface ErrorBody {
  error: {
    code: ErrorCode
    message: string
    type: string
    param: string | null
    requestId?: string
  }
}

/** Every error Graft throws on purpose. Anything else is a defect and leaves a server as ERR_INTERNAL. */
export class GraftError extends Error {
  override name = 'GraftError'
  readonly code: ErrorCode
  /** Seconds after which trying again is known to make sense. */
  readonly retryAfter: number | undefined
  constructor(code: ErrorCode, message: string, options?: ErrorOptions & { retryAfter?: number }) {
    super(message, options)
    this.code = code
    this.retryAfter = options?.retryAfter
  }
  get status(): number {
    return ERRORS[this.code].status
  }
  get exit(): number {
    return ERRORS[this.code].exit
  }
}

/** By code, not by class, so that two copies of the package still agree. */
export const isGraftError = (e: unknown): e is GraftError =>
  e instanceof Error && 'code' in e && Object.hasOwn(ERRORS, String(e.code))

/** "where must be what, got value": the first half of every refusal. */
export const expected = (where: string, what: string, got: unknown): string =>
  `${where} must be ${what}, got ${printable(got)}`

function printable(value: unknown): string {
  const text =
    typeof value === 'string' ? JSON.stringify(value) : String(JSON.stringify(value) ?? value)
  return text.length > 120 ? `${text.slice(0, 117)}...` : text
}

const TYPE_BY_STATUS: Record<number, string> = {
  401: 'authentication_error',
  402: 'insufficient_quota',
  403: 'permission_error',
  404: 'not_found_error',
  429: 'rate_limit_error',
}

/** Turns any thrown value into status and body; a stranger's message and stack never leave the server. */
export function errorResponse(e: unknown, requestId?: string): { status: number; body: ErrorBody } {
  const known = isGraftError(e)
  const code: ErrorCode = known ? e.code : 'ERR_INTERNAL'
  const status = ERRORS[code].status
  const type = TYPE_BY_STATUS[status] ?? (status < 500 ? 'invalid_request_error' : 'server_error')
  const message = known ? e.message : 'the server failed; the operator finds the cause in its log'
  return {
    status,
    body: { error: { code, message, type, param: null, ...(requestId ? { requestId } : {}) } },
  }
}
