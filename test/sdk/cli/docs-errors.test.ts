import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { errorsPage } from '@graft/cli/docs-errors.ts'
import { ERRORS, EXIT } from '@graft/sdk/format/errors.ts'
import { expect, it } from 'vitest'

const page = readFileSync(join(import.meta.dirname, '../../../docs/errors.md'), 'utf8')

it('docs/errors.md lists every code with its status and exit code, and no other', () => {
  const rows = [...page.matchAll(/^\| `(ERR_\w+)` +\| (\d+) +\| (\d+) +\|$/gm)]
  expect(rows.map(([, code, status, exit]) => [code, Number(status), Number(exit)])).toEqual(
    Object.entries(ERRORS).map(([code, { status, exit }]) => [code, status, exit]),
  )
})

it('docs/errors.md is what node sdk/cli/docs-errors.ts writes', () => {
  expect(page).toBe(errorsPage())
  for (const exit of Object.values(EXIT)) expect(page).toContain(`| ${exit} | `)
})
