import { CAST_DTYPES } from '@graft/convert/cast-dtype.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import { Command, InvalidArgumentError, Option } from 'commander'
import {
  balanceCommand,
  createTokenCommand,
  type LoginFlags,
  loginCommand,
  logoutCommand,
  type TokenFlags,
  whoamiCommand,
} from './commands/account.ts'
import { type ConvertFlags, convertCommand, TARGETS } from './commands/convert.ts'
import { type ExportSignatureFlags, exportSignatureCommand } from './commands/export-signature.ts'
import { type InspectFlags, inspectCommand } from './commands/inspect.ts'
import { type InstallFlags, installCommand } from './commands/install.ts'
import { generateKeyCommand, listKeysCommand } from './commands/keys.ts'
import { createUserCommand, topUpCommand } from './commands/operator.ts'
import { type PublishFlags, publishCommand } from './commands/publish.ts'
import { type PullFlags, pullCommand } from './commands/pull.ts'
import { resolveCommand } from './commands/resolve.ts'
import { type RunFlags, runCommand } from './commands/run.ts'
import { listTokensCommand, revokeTokenCommand, rotateTokenCommand } from './commands/tokens.ts'
import { updateCommand } from './commands/update.ts'
import { verifyCommand } from './commands/verify.ts'
import {
  deprecateCommand,
  tombstoneCommand,
  type YankFlags,
  yankCommand,
} from './commands/version-state.ts'
import type { CliContext } from './context.ts'
import type { DemandFlags } from './demand-flags.ts'

const number = (text: string): number => {
  const value = Number(text)
  if (text.trim() !== '' && Number.isFinite(value)) return value
  throw new InvalidArgumentError(expected('it', 'a number', text))
}
const count = (text: string): number => {
  const value = number(text)
  if (Number.isSafeInteger(value) && value >= 0) return value
  throw new InvalidArgumentError(expected('it', 'a whole number', text))
}
const collect = (value: string, before: string[] = []): string[] => [...before, value]

const EXIT_CODES = `
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 not allowed, 5 not intact, 6 conflict,
7 over a limit or out of money, 8 unreachable or overloaded, 9 not supported.
With --json one JSON document is on stdout: the result, or {"error":{"code","message"}}.
Environment: GRAFT_REGISTRY, GRAFT_EDGE, GRAFT_TOKEN, GRAFT_HOME (default ~/.config/graft).`

/** The commands, told apart from how they do it. `contextOf` is asked once, when a command runs. */
export function createProgram(
  contextOf: (flags: Record<string, unknown>) => Promise<CliContext>,
): Command {
  const program = new Command('graft')
  const run =
    <Args extends unknown[]>(action: (context: CliContext, ...args: Args) => Promise<void>) =>
    async (...args: unknown[]): Promise<void> => {
      const context = await contextOf(program.opts())
      await action(context, ...(args.slice(0, -1) as Args))
    }

  program
    .description('Publish, pull, prove and call fine-tuning adapters')
    .option('--json', 'one JSON document on stdout, errors too')
    .option('-q, --quiet', 'nothing on stderr but errors')
    .option('--no-input', 'never ask (nothing is asked today)')
    .option('--registry <url>', 'registry')
    .option('--edge <url>', 'edge')
    .addHelpText('after', EXIT_CODES)
    .showSuggestionAfterError()
    .configureHelp({ showGlobalOptions: true })

  program
    .command('publish <path>')
    .description("import a training tool's folder or file, sign it and publish it")
    .requiredOption('--name <@scope/name>', 'package')
    .requiredOption('--version <x.y.z>', 'version')
    .option(
      '--base <which>',
      'digest, name or folder of the base (default: the name in the config)',
    )
    .option('--base-config <file>', "the base's config.json, where --base has none")
    .option('--goldens <file>', 'logits that runners must reproduce')
    .option('--private', 'only your organisation may pull and call it')
    .option('--tag <tag>', 'dist-tag, may be repeated (default: latest)', collect)
    .option('--key <kid or file>', 'signing key (default: the only one)')
    .option('--description <text>', 'one line')
    .option('--license <spdx>', 'licence')
    .option('--no-readme', "leave the folder's README.md out")
    .action(run<[string, PublishFlags]>(publishCommand))
  withDemands(program.command('pull <ref>').description('download and verify an adapter'))
    .option('-o, --output <dir>', 'folder (default: <name>-<version>)')
    .option('--force', 'replace the folder')
    .option('--signer <kid>', 'one of these keys must have signed', collect)
    .action(run<[string, PullFlags]>(pullCommand))
  withDemands(
    program.command('resolve <ref>').description('which version a reference means, and why'),
  ).action(run<[string, DemandFlags]>(resolveCommand))
  const adaptersFolder = ['-o, --output <dir>', 'folder of the adapters', 'adapters'] as const
  withDemands(
    program
      .command('install [refs...]')
      .description('what graft.lock names, into a folder; refs are added to graft.lock'),
  )
    .option(...adaptersFolder)
    .option('--frozen', 'fail where anything differs from graft.lock, and change nothing')
    .option('--signer <kid>', 'one of these keys must have signed', collect)
    .action(run<[string[], InstallFlags]>(installCommand))
  withDemands(
    program
      .command('update [names...]')
      .description("newer versions within graft.lock's ranges, then install"),
  )
    .option(...adaptersFolder)
    .option('--signer <kid>', 'one of these keys must have signed', collect)
    .action(run<[string[], InstallFlags]>(updateCommand))
  program
    .command('yank <ref>')
    .description('ranges and tags choose this version no more; lock files still get it')
    .option('--reason <text>', 'shown to whoever meets it')
    .option('--undo', 'take it back')
    .action(run<[string, YankFlags]>(yankCommand))
  program
    .command('deprecate <ref> [message...]')
    .description('choose this version only where nothing else fits, and then say why')
    .option('--undo', 'take it back')
    .action(run<[string, string[], { undo?: boolean }]>(deprecateCommand))
  program
    .command('tombstone <ref>')
    .description("remove a version's bytes for good, for law and leaked secrets (owners)")
    .requiredOption('--reason <text>', 'stays, with the digest')
    .requiredOption('--forever', 'say that you know there is no way back')
    .action(run<[string, { reason: string; forever: boolean }]>(tombstoneCommand))
  program
    .command('run <model> [prompt...]')
    .description('call a model; the prompt may also come from stdin')
    .option('--chat', 'as a chat message')
    .option('--compare-base', "beside the base's own answer")
    .option('--max-tokens <n>', 'longest answer (default: 128)', count)
    .option('--temperature <t>', '0 is greedy', number)
    .option('--seed <n>', 'same seed, same answer', count)
    .action(run<[string, string[], RunFlags]>(runCommand))
  program
    .command('verify <target>')
    .description('prove a pulled folder (offline), a digest or a reference')
    .option('--signer <kid>', 'one of these keys must have signed', collect)
    .action(run<[string, { signer?: string[] }]>(verifyCommand))
  program
    .command('inspect <path>')
    .description('what a folder or file holds, what it proves and whether it fits a base')
    .option(
      '--base <which>',
      'digest, name or folder of the base (default: the name in the config)',
    )
    .option('--base-config <file>', "the base's config.json, where --base has none")
    .option('--tensors', 'list every tensor with its module')
    .action(run<[string, InspectFlags]>(inspectCommand))
  program
    .command('convert <path>')
    .description("an adapter in another tool's format, with every loss told")
    .addOption(new Option('--to <format>', 'target').choices(TARGETS).makeOptionMandatory())
    .option('-o, --out <dir>', 'folder (default: <path>-<format>)')
    .option('--force', 'replace the folder')
    .option(
      '--base <which>',
      'digest, name or folder of the base (default: the name in the config)',
    )
    .option('--base-config <file>', "the base's config.json, where --base has none")
    .addOption(
      new Option('--dtype <dtype>', 'round every weight').choices(Object.keys(CAST_DTYPES)),
    )
    .action(run<[string, ConvertFlags]>(convertCommand))
  program
    .command('export-signature <dir>')
    .description('sign a folder again, in a form that other tools verify')
    .addOption(
      new Option(
        '--format <format>',
        'OpenSSF model signing of every file, or DSSE of adapter.json',
      )
        .choices(['oms', 'dsse'])
        .default('oms'),
    )
    .option('--key <kid or file>', 'signing key (default: the only one); oms needs an ES256 key')
    .option('-o, --output <file>', 'default: model.sig or adapter.dsse.json in the folder')
    .action(run<[string, ExportSignatureFlags]>(exportSignatureCommand))
  program.command('whoami').description('whose token this is').action(run(whoamiCommand))
  program
    .command('login')
    .description('sign in by a browser, here or elsewhere; keep the token and the servers in use')
    .option('--scopes <list>', 'what the token shall allow (default: infer,read,publish)')
    .option('--token-stdin', 'read a token from stdin instead')
    .action(run<[LoginFlags]>(loginCommand))
  program
    .command('logout')
    .description('revoke the kept token and forget it')
    .action(run(logoutCommand))
  const keys = program.command('keys').description('signing keys')
  keys
    .command('generate')
    .description('make a key and register its public half')
    .option('--org <name>', "organisation (default: the token's)")
    .option('--alg <alg>', 'Ed25519 or ES256', parseAlg)
    .option('--no-register', 'only on this machine')
    .action(
      run<[{ org?: string; register: boolean; alg?: 'Ed25519' | 'ES256' }]>(generateKeyCommand),
    )
  keys
    .command('list')
    .description('keys of this machine and of the organisation')
    .option('--org <name>', "organisation (default: the token's)")
    .action(run<[{ org?: string }]>(listKeysCommand))
  const tokens = program.command('tokens').description('access tokens')
  tokens
    .command('create')
    .description('a token, printed once')
    .requiredOption('--name <text>', 'what it is for')
    .requiredOption('--scopes <list>', 'infer,read,publish,ledger,admin')
    .option('--org <name>', "organisation (default: your token's)")
    .option('--expires-in <seconds>', 'lifetime', count, 90 * 86_400)
    .action(run<[TokenFlags]>(createTokenCommand))
  tokens
    .command('list')
    .description("yours, or with the scope admin everybody's; when each was last used")
    .action(run(listTokensCommand))
  tokens
    .command('revoke <id>')
    .description('end a token, everywhere within ten seconds')
    .action(run<[string]>(revokeTokenCommand))
  tokens
    .command('rotate <id>')
    .description(
      'a new token like it, printed once (or kept, if it is the kept one); the old one ends',
    )
    .action(run<[string]>(rotateTokenCommand))
  program
    .command('balance')
    .description('what is left and what was spent')
    .action(run(balanceCommand))
  program
    .command('users')
    .description('people (for the administrator)')
    .command('create <user>')
    .description('a user with an organisation; prints their first token')
    .requiredOption('--org <name>', 'made when new, owned by the user')
    .action(run<[string, { org: string }]>(createUserCommand))
  program
    .command('top-up <org> <amount>')
    .description("add to an organisation's balance (for the operator)")
    .option('--id <id>', 'a repeat with the same id changes nothing (default: a new one)')
    .option('--memo <text>', 'kept with the entry')
    .action(run<[string, string, { id?: string; memo?: string }]>(topUpCommand))

  for (const command of allOf(program)) command.exitOverride()
  return program
}

/** What a version must fit, alike for every command that chooses one. */
const withDemands = (command: Command): Command =>
  command
    .option('--base <digest>', 'only versions for this base')
    .option('--structure <digest>', 'or for any base with these tensor names and shapes')
    .option('--operations <kinds>', 'only what a runtime with these can serve')
    .option('--max-rank <n>', 'only versions of at most this rank', count)
    .option('--license <spdx>', 'only versions under one of these', collect)
    .option('--min-release-age <time>', 'only versions published so long ago: 12h, 7d')

function parseAlg(text: string): 'Ed25519' | 'ES256' {
  if (text === 'Ed25519' || text === 'ES256') return text
  throw new GraftError('ERR_REQUEST_INVALID', expected('--alg', 'Ed25519 or ES256', text))
}

export const allOf = (command: Command): Command[] => [command, ...command.commands.flatMap(allOf)]
