import { ERRORS, EXIT } from '@graft/sdk/format/errors.ts'

const MEANING: Record<keyof typeof EXIT, string> = {
  ok: 'done',
  failure: 'failed',
  usage: 'wrong usage or a request that cannot be read',
  notFound: 'not there, or not yours to see',
  auth: 'not signed in, or not allowed',
  integrity: 'bytes, signatures or formats that are not what they claim',
  conflict: 'somebody was there before, or the state forbids it',
  limit: 'over a limit, or out of money',
  unavailable: 'not reachable, overloaded or too slow; trying again may help',
  unsupported: 'understood and not supported',
}

/** docs/errors.md, whole. `node sdk/cli/docs-errors.ts > docs/errors.md` */
export function errorsPage(): string {
  const codes = Object.entries(ERRORS).map(
    ([code, { status, exit }]) => `| \`${code}\` | ${status} | ${exit} |`,
  )
  const exits = Object.entries(EXIT).map(
    ([kind, exit]) => `| ${exit} | ${MEANING[kind as keyof typeof EXIT]} |`,
  )
  return `# Error codes

Written from the table in [sdk/format/errors.ts](../sdk/format/errors.ts) by \`node sdk/cli/docs-errors.ts > docs/errors.md\`.

The same code travels from runner to edge, from registry to SDK, and to the command line. Over HTTP every error is
\`{"error": {"code", "message", "type", "param", "requestId"}}\`; inside a stream it is one \`data:\` event with that body and
no \`[DONE]\` after it. From \`graft --json\` it is \`{"error": {"code", "message"}}\` on stdout. A message says where, what was
expected, what came, and what to do. Where trying again makes sense, \`Retry-After\` says when.

## Exit codes of \`graft\` and \`npm start\`

| exit | meaning |
| ---- | ------- |
${exits.join('\n')}

## Codes

| code | HTTP status | exit |
| ---- | ----------- | ---- |
${codes.join('\n')}
`
}

if (import.meta.main) process.stdout.write(errorsPage())
