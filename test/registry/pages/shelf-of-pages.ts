import { withCard } from '@graft/sdk/format/card.ts'
import { manifestDigest } from '@graft/sdk/format/parse-manifest.ts'
import { type Adapter, type AdapterOptions, adapter } from '../fixtures.ts'

export const README = `---
license: apache-2.0
tags: [sql]
---
# SQL from questions

Answers questions about tables with **one** statement. See the [paper](https://example.org/paper).

## Training

| setting | value |
|---|---|
| epochs | 3 |
| rank | 2 |

- [x] evaluated
- [ ] tested on 70B

\`\`\`python
from transformers import AutoModelForCausalLM
\`\`\`

> Generated statements are not executed.

![loss curve](https://example.org/loss.png)
`

/** An adapter with a README among its files. */
export async function adapterWithReadme(
  readme: string | Uint8Array,
  options: AdapterOptions,
): Promise<Adapter> {
  const made = await adapter(options)
  const bytes = typeof readme === 'string' ? new TextEncoder().encode(readme) : readme
  const manifest = await withCard(made.manifest, bytes)
  const files = new Map(made.files).set(manifest.files.at(-1)!.sha256, bytes)
  return { ...made, manifest, files, digest: await manifestDigest(manifest) }
}
