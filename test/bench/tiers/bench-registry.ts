import { createRegistryClient } from '@graft/sdk/client/registry-client.ts'
import { generateSigningKey, signEnvelope } from '@graft/sdk/format/jws.ts'
import { type Goldens, JWS_TYPES } from '@graft/sdk/format/manifest.ts'
import { goldensStatement, statementBytes } from '@graft/sdk/format/statements.ts'
import type { BaseRecord } from '@graft/sdk/protocol/registry-api.ts'
import type { LoraFile } from './lora-files.ts'
import { startRegistry } from './start-registry.ts'

const ORG = 'bench'

export interface BenchRegistry {
  url: string
  /** Publishes with goldens, through the public API. */
  publish(lora: LoraFile, goldens: { facts: Goldens; logits: Uint8Array }): Promise<void>
}

/** The real registry on Node, in its own process and on loopback, with one organisation and one base. */
export async function openBenchRegistry(
  stack: AsyncDisposableStack,
  folder: string,
  base: BaseRecord,
): Promise<BenchRegistry> {
  const { url, setupCode: code } = await startRegistry(stack, folder)
  const { token } = await createRegistryClient({ url }).setup({ code, user: 'operator', org: ORG })
  const client = createRegistryClient({ url, token })
  const key = await generateSigningKey()
  await client.addKey(ORG, key.publicJwk)
  await client.putBase(base)
  return {
    url,
    async publish({ manifest, safetensors, digest }, { facts, logits }) {
      const statement = statementBytes(goldensStatement(manifest.name, digest, facts))
      await client.publish({
        manifest,
        safetensors,
        blobs: [{ digest: facts.logits.sha256, bytes: logits }],
        attestations: [await signEnvelope(statement, JWS_TYPES.attestation, [key])],
        keys: [key],
      })
    },
  }
}
