import { html } from 'hono/html'
import type { Html } from './layout.ts'

/** How to call the version; the edge's address is the reader's own. */
export const callSnippets = (name: string, version: string): Html => {
  const model = `${name}@${version}`
  return html`<details open><summary>Command line</summary>
<pre tabindex="0"><code>graft run ${model} 'your prompt'</code></pre></details>
<details><summary>curl</summary>
<pre tabindex="0"><code>curl "$GRAFT_EDGE/v1/chat/completions" \\
  -H "authorization: Bearer $GRAFT_TOKEN" \\
  -H "content-type: application/json" \\
  -d '{"model": "${model}", "messages": [{"role": "user", "content": "your prompt"}]}'</code></pre></details>
<details><summary>OpenAI client, TypeScript</summary>
<pre tabindex="0"><code>import OpenAI from 'openai'

const client = new OpenAI({ baseURL: \`\${process.env.GRAFT_EDGE}/v1\`, apiKey: process.env.GRAFT_TOKEN })
const answer = await client.chat.completions.create({
  model: '${model}',
  messages: [{ role: 'user', content: 'your prompt' }],
})</code></pre></details>
<details><summary>OpenAI client, Python</summary>
<pre tabindex="0"><code>import os
from openai import OpenAI

client = OpenAI(base_url=os.environ["GRAFT_EDGE"] + "/v1", api_key=os.environ["GRAFT_TOKEN"])
answer = client.chat.completions.create(
    model="${model}",
    messages=[{"role": "user", "content": "your prompt"}],
)</code></pre></details>`
}
