import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { basename, join, relative, resolve, sep } from 'node:path'
import { fromHex } from '@graft/sdk/format/digest.ts'
import { MANIFEST_MEDIA_TYPE, signDsse } from '@graft/sdk/format/dsse.ts'
import { expected, GraftError } from '@graft/sdk/format/errors.ts'
import type { SigningKey } from '@graft/sdk/format/jws.ts'
import { type OmsFile, signOms } from '@graft/sdk/format/oms.ts'
import { parseManifest } from '@graft/sdk/format/parse-manifest.ts'
import { publicKeyPem } from '@graft/sdk/format/raw-signature.ts'
import type { CliContext } from '../context.ts'
import { isFolder, readRequired, writeFileAtomically } from '../files.ts'
import { openKey } from '../key-files.ts'
import { facts } from '../text.ts'
import { PULLED } from './pull.ts'

export interface ExportSignatureFlags {
  format: 'oms' | 'dsse'
  key?: string
  output?: string
}

const DEFAULT_OUTPUT = { oms: 'model.sig', dsse: 'adapter.dsse.json' } as const

/**
 * `graft export-signature <dir>`: the folder signed once more in a form that other tools verify. `oms`: every file, for
 * `model_signing verify key`; `dsse`: the manifest, for verifiers of DSSE envelopes. The public key stands beside it.
 */
export async function exportSignatureCommand(
  context: CliContext,
  folder: string,
  flags: ExportSignatureFlags,
): Promise<void> {
  if (!(await isFolder(folder)))
    throw new GraftError('ERR_REQUEST_INVALID', expected('<dir>', 'a folder', folder))
  const key = await openKey(context.config.home, flags.key)
  const file = flags.output ?? join(folder, DEFAULT_OUTPUT[flags.format])
  const keyFile = `${file}.pem`
  const { signed, document } =
    flags.format === 'oms'
      ? await signFolder(folder, key, [file, keyFile])
      : await signManifest(folder, key)
  await writeFileAtomically(file, `${JSON.stringify(document)}\n`)
  await writeFileAtomically(keyFile, await publicKeyPem(key.publicJwk))
  const result = { format: flags.format, file, publicKey: keyFile, kid: key.kid, files: signed }
  context.output.result(result, () =>
    facts([
      ['signed', signed.join(', ')],
      ['signature', file],
      ['public key', keyFile],
      [
        'verify with',
        flags.format === 'oms'
          ? `model_signing verify key ${folder} --signature ${file} --public_key ${keyFile}`
          : `any verifier of DSSE envelopes, payload type ${MANIFEST_MEDIA_TYPE}`,
      ],
    ]),
  )
}

async function signManifest(folder: string, key: SigningKey) {
  const bytes = await readRequired(join(folder, PULLED.manifest))
  parseManifest(bytes)
  return { signed: [PULLED.manifest], document: await signDsse(bytes, MANIFEST_MEDIA_TYPE, [key]) }
}

/** What git keeps for itself; verifiers leave it out without being told. */
const GIT = new Set(['.git', '.gitattributes', '.github', '.gitignore'])

async function signFolder(folder: string, key: SigningKey, written: string[]) {
  const root = resolve(folder)
  const ignored = written
    .map((path) => relative(root, resolve(path)).split(sep).join('/'))
    .filter((path) => !path.startsWith('../'))
  const files: OmsFile[] = []
  const entries = await readdir(root, { withFileTypes: true, recursive: true })
  for (const entry of entries) {
    const path = relative(root, join(entry.parentPath, entry.name)).split(sep).join('/')
    if (GIT.has(path.split('/')[0]!) || ignored.includes(path) || entry.isDirectory()) continue
    if (!entry.isFile())
      throw new GraftError('ERR_REQUEST_INVALID', expected(`${folder}/${path}`, 'a file', 'a link'))
    const hash = createHash('sha256')
    for await (const chunk of createReadStream(join(root, path))) hash.update(chunk as Buffer)
    files.push({ path, sha256: fromHex(hash.digest('hex')) })
  }
  const signed = files.map(({ path }) => path).sort()
  return { signed, document: await signOms(basename(root), files, key, ignored) }
}
