#!/usr/bin/env node
import { EXIT, GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import { CommanderError } from 'commander'
import { loadConfig } from './config.ts'
import type { CliContext } from './context.ts'
import { createOutput, describeError } from './output.ts'
import { allOf, createProgram } from './program.ts'

async function readStdin(): Promise<string> {
  if (process.stdin.isTTY) return ''
  const chunks: Buffer[] = []
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}

async function main(args: string[]): Promise<number> {
  const streams = { stdout: process.stdout, stderr: process.stderr, env: process.env }
  const flag = (name: string): boolean => args.includes(name)
  const output = createOutput(streams, {
    json: flag('--json'),
    quiet: flag('--quiet') || flag('-q'),
  })
  const cancel = new AbortController()
  process.once('SIGINT', () => cancel.abort())
  const program = createProgram(async (flags): Promise<CliContext> => {
    const urls = flags as { registry?: string; edge?: string }
    return {
      output,
      config: await loadConfig(process.env, urls),
      signal: cancel.signal,
      readStdin,
    }
  })
  // With --json an error is one document, so commander's own words are kept for it.
  for (const command of allOf(program))
    command.configureOutput({
      writeErr: (text) => void (output.json || process.stderr.write(text)),
    })
  try {
    await program.parseAsync(args, { from: 'user' })
    return EXIT.ok
  } catch (e) {
    if (e instanceof CommanderError) {
      if (e.exitCode === 0) return EXIT.ok
      const said = e.code === 'commander.help' ? 'a command is missing' : e.message
      const message = `${said.replace(/^error: /, '')}; see graft --help`
      if (output.json) output.error(new GraftError('ERR_REQUEST_INVALID', message))
      return EXIT.usage
    }
    output.error(e)
    return isGraftError(e) ? e.exit : describeError(e).exit
  }
}

// A reader that closed early (graft ... | head) is not a failure.
process.stdout.on('error', (e: NodeJS.ErrnoException) => {
  if (e.code === 'EPIPE') process.exit(EXIT.ok)
  throw e
})
process.exitCode = await main(process.argv.slice(2))
