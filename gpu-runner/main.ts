#!/usr/bin/env node
import './start-steady.ts'
import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { ERRORS, expected, GraftError, isGraftError } from '@graft/sdk/format/errors.ts'
import {
  parseBankPrecision,
  parseExecution,
  parseKvPrecision,
  parsePrecision,
} from './engine/open-engine.ts'
import { parseMergeOption } from './merging/merge-option.ts'
import { type ServeOptions, serveRunner } from './serve.ts'

const USAGE = `graft-runner --checkpoint <folder> --registry <url> --state <folder> --id <name> --fleet-key <file>
  [--edge <url>] [--port 8090] [--host 127.0.0.1] [--public-url <url>]
  [--precision fp32|int8|w8a8|int4|nf4|nf4-exact] [--execution cpu|webgpu] [--policy goldens|allow-unproven] [--slots 32] [--threads 2]
  [--bank-mib 1024] [--bank-precision fp32|fp16|int8] [--host-mib 1024] [--disk-mib 20480]
  [--kv-mib 1024] [--kv-precision fp32|fp16|int8] [--prefix-mib 256] [--merge off|request|auto|<MiB>] [--share-prefixes]
The fleet key is a private JWK in a file, or in GRAFT_FLEET_KEY.`

const FLAGS = {
  checkpoint: { type: 'string' },
  registry: { type: 'string' },
  edge: { type: 'string' },
  port: { type: 'string', default: '8090' },
  host: { type: 'string', default: '127.0.0.1' },
  'public-url': { type: 'string' },
  state: { type: 'string' },
  id: { type: 'string' },
  'fleet-key': { type: 'string' },
  precision: { type: 'string', default: 'fp32' },
  execution: { type: 'string', default: 'cpu' },
  policy: { type: 'string', default: 'goldens' },
  slots: { type: 'string' },
  threads: { type: 'string' },
  'bank-mib': { type: 'string' },
  'bank-precision': { type: 'string', default: 'fp32' },
  'host-mib': { type: 'string' },
  'disk-mib': { type: 'string' },
  'kv-mib': { type: 'string' },
  'kv-precision': { type: 'string', default: 'fp32' },
  'prefix-mib': { type: 'string' },
  merge: { type: 'string', default: 'off' },
  'share-prefixes': { type: 'boolean', default: false },
  help: { type: 'boolean', default: false },
} as const

const usage = (message: string, cause?: unknown): GraftError =>
  new GraftError('ERR_REQUEST_INVALID', `${message}\n${USAGE}`, { cause })

function readFlags(args: string[]) {
  try {
    return parseArgs({ args, options: FLAGS, strict: true }).values
  } catch (cause) {
    throw usage((cause as Error).message, cause)
  }
}

function oneOf<T extends string>(flag: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((word) => word === value)
  if (found === undefined) throw usage(expected(`--${flag}`, allowed.join(' or '), value))
  return found
}

async function readFleetKey(path: string | undefined): Promise<JsonWebKey> {
  const inline = process.env['GRAFT_FLEET_KEY']
  if (path === undefined && inline === undefined) throw usage('--fleet-key must name a file')
  try {
    return JSON.parse(path === undefined ? inline! : await readFile(path, 'utf8'))
  } catch (cause) {
    throw usage(`--fleet-key must be a private JWK in JSON: ${(cause as Error).message}`, cause)
  }
}

/** A whole number, when the flag was given. */
function wholeNumber(
  flag: 'slots' | 'threads' | 'bank-mib' | 'host-mib' | 'disk-mib' | 'kv-mib' | 'prefix-mib',
  value: string | undefined,
  least = 1,
): number | undefined {
  if (value === undefined) return undefined
  const number = Number(value)
  if (Number.isInteger(number) && number >= least) return number
  throw usage(expected(`--${flag}`, `a number of at least ${least}`, value))
}

const MIB = 2 ** 20

async function parseOptions(args: string[]): Promise<ServeOptions> {
  const flags = readFlags(args)
  const need = (flag: 'checkpoint' | 'registry' | 'state' | 'id'): string => {
    const value = flags[flag]
    if (value === undefined) throw usage(`--${flag} must be given`)
    return value
  }
  const port = Number(flags.port)
  if (!Number.isInteger(port) || port < 0 || port > 65_535)
    throw usage(expected('--port', 'a port number', flags.port))
  const publicUrl = flags['public-url']
  const slots = wholeNumber('slots', flags.slots)
  const threads = wholeNumber('threads', flags.threads)
  const bankMib = wholeNumber('bank-mib', flags['bank-mib'])
  const hostMib = wholeNumber('host-mib', flags['host-mib'])
  const diskMib = wholeNumber('disk-mib', flags['disk-mib'])
  const kvMib = wholeNumber('kv-mib', flags['kv-mib'])
  const prefixMib = wholeNumber('prefix-mib', flags['prefix-mib'], 0)
  return {
    checkpoint: need('checkpoint'),
    registry: need('registry'),
    edge: flags.edge ?? null,
    port,
    host: flags.host,
    ...(publicUrl === undefined ? {} : { publicUrl }),
    state: need('state'),
    id: need('id'),
    fleetKey: await readFleetKey(flags['fleet-key']),
    precision: parsePrecision(flags.precision),
    execution: parseExecution(flags.execution),
    policy: oneOf('policy', flags.policy, ['goldens', 'allow-unproven'] as const),
    ...(slots === undefined ? {} : { slots }),
    ...(threads === undefined ? {} : { threads }),
    bankPrecision: parseBankPrecision(flags['bank-precision']),
    kvPrecision: parseKvPrecision(flags['kv-precision']),
    ...(kvMib === undefined ? {} : { kvBudgetBytes: kvMib * MIB }),
    ...(prefixMib === undefined ? {} : { prefixBudgetBytes: prefixMib * MIB }),
    ...(bankMib === undefined ? {} : { bankBudgetBytes: bankMib * MIB }),
    merge: parseMergeOption(flags.merge),
    limits: {
      sharePrefixes: flags['share-prefixes'],
      ...(hostMib === undefined ? {} : { hostBytes: hostMib * MIB }),
      ...(diskMib === undefined ? {} : { diskBytes: diskMib * MIB }),
    },
    log: (event) => process.stderr.write(`${JSON.stringify({ at: new Date(), ...event })}\n`),
  }
}

/** Message and exit code of the error table; the stack of what we threw on purpose helps nobody. */
function exit(e: unknown): never {
  const known = isGraftError(e)
  const text = known ? `${e.code}: ${e.message}` : e instanceof Error ? e.message : String(e)
  process.stderr.write(`${text}\n`)
  process.exit(known ? e.exit : ERRORS.ERR_INTERNAL.exit)
}

try {
  const args = process.argv.slice(2)
  if (args.includes('--help')) {
    process.stdout.write(`${USAGE}\n`)
    process.exit(0)
  }
  const { url, close } = await serveRunner(await parseOptions(args))
  let closing = false
  const stop = (): void => {
    if (closing) return
    closing = true
    close().then(() => process.exit(0), exit)
  }
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)
  process.stdout.write(`${JSON.stringify({ ready: true, url })}\n`)
} catch (e) {
  exit(e)
}
