import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const BINARY = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(
  existsSync,
)

/** Why there is no browser to test with; null where there is one. */
export const NO_CHROMIUM: string | null = BINARY
  ? null
  : 'no chromium is installed (Debian: apt-get install --no-install-recommends chromium)'

export interface Look {
  width: number
  height: number
  dark: boolean
  /** @default false */
  print?: boolean
  /** Lets a tool of the test run in the page. @default false */
  scripts?: boolean
}

export interface BrowserPage {
  /** Of an expression of the page; promises are awaited. */
  evaluate<T>(expression: string): Promise<T>
  /** PNG of the whole page. */
  screenshot(): Promise<Uint8Array>
  press(key: string): Promise<void>
  /** What the console and the network complained of since the page was opened. */
  complaints: string[]
  /** Every address that was asked for. */
  requests: string[]
  close(): Promise<void>
}

interface Message {
  id?: number
  sessionId?: string
  method?: string
  // biome-ignore lint/suspicious/noExplicitAny: the Chrome DevTools Protocol's own shapes
  params?: any
  // biome-ignore lint/suspicious/noExplicitAny: the same
  result?: any
  error?: { message: string }
}

/** A headless browser of its own, spoken to by the Chrome DevTools Protocol. JavaScript of pages is off unless asked for. */
export async function openChromium() {
  const profile = mkdtempSync(join(tmpdir(), 'graft-chromium-'))
  const child = spawn(
    BINARY!,
    [
      '--headless=new',
      '--no-sandbox',
      '--disable-gpu',
      '--hide-scrollbars',
      '--remote-debugging-port=0',
      `--user-data-dir=${profile}`,
      'about:blank',
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  )
  const socket = new WebSocket(await addressOf(child))
  await new Promise((resolve, reject) => {
    socket.onopen = resolve
    socket.onerror = reject
  })
  const waiting = new Map<number, (message: Message) => void>()
  const listeners = new Set<(message: Message) => void>()
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(String(data)) as Message
    if (message.id === undefined) for (const listener of listeners) listener(message)
    else waiting.get(message.id)?.(message)
  }
  let next = 0
  // biome-ignore lint/suspicious/noExplicitAny: the Chrome DevTools Protocol's own shapes
  const send = (method: string, params: object = {}, sessionId?: string): Promise<any> =>
    new Promise((resolve, reject) => {
      const id = ++next
      waiting.set(id, ({ result, error }) => {
        waiting.delete(id)
        if (error) reject(new Error(`${method}: ${error.message}`))
        else resolve(result)
      })
      socket.send(JSON.stringify({ id, method, params, ...(sessionId ? { sessionId } : {}) }))
    })

  async function open(url: string, look: Look): Promise<BrowserPage> {
    const { targetId } = await send('Target.createTarget', { url: 'about:blank' })
    const { sessionId } = await send('Target.attachToTarget', { targetId, flatten: true })
    const call = (method: string, params: object = {}) => send(method, params, sessionId)
    const page = { complaints: [] as string[], requests: [] as string[] }
    let loaded = () => {}
    const load = new Promise<void>((resolve) => {
      loaded = resolve
    })
    const listener = ({ sessionId: from, method, params }: Message) => {
      if (from !== sessionId) return
      if (method === 'Page.loadEventFired') loaded()
      if (method === 'Network.requestWillBeSent') page.requests.push(params.request.url)
      if (method === 'Log.entryAdded') page.complaints.push(params.entry.text)
      if (method === 'Runtime.exceptionThrown') page.complaints.push(params.exceptionDetails.text)
    }
    listeners.add(listener)
    for (const domain of ['Page', 'Network', 'Log', 'Runtime']) await call(`${domain}.enable`)
    await call('Emulation.setScriptExecutionDisabled', { value: !look.scripts })
    await call('Emulation.setDeviceMetricsOverride', {
      width: look.width,
      height: look.height,
      deviceScaleFactor: 1,
      mobile: look.width < 600,
    })
    await call('Emulation.setEmulatedMedia', {
      media: look.print ? 'print' : 'screen',
      features: [{ name: 'prefers-color-scheme', value: look.dark ? 'dark' : 'light' }],
    })
    await call('Page.navigate', { url })
    await load
    return {
      ...page,
      async evaluate<T>(expression: string): Promise<T> {
        const options = { expression, returnByValue: true, awaitPromise: true }
        const { result, exceptionDetails } = await call('Runtime.evaluate', options)
        if (exceptionDetails) throw new Error(exceptionDetails.exception?.description)
        return result.value as T
      },
      async screenshot() {
        const { data } = await call('Page.captureScreenshot', { captureBeyondViewport: true })
        return Buffer.from(data, 'base64')
      },
      async press(key: string) {
        for (const type of ['keyDown', 'keyUp'])
          await call('Input.dispatchKeyEvent', { type, key, code: key, windowsVirtualKeyCode: 9 })
      },
      async close() {
        listeners.delete(listener)
        await send('Target.closeTarget', { targetId })
      },
    }
  }

  return {
    open,
    async close() {
      socket.close()
      const ended = new Promise((resolve) => child.once('exit', resolve))
      child.kill()
      await ended
      rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
    },
  }
}

/** Chromium writes its socket's address to stderr once it listens. */
const addressOf = (child: ChildProcess): Promise<string> =>
  new Promise((resolve, reject) => {
    let said = ''
    child.stderr!.on('data', (chunk) => {
      said += chunk
      const [, url] = /DevTools listening on (ws:\S+)/.exec(said) ?? []
      if (url) resolve(url)
    })
    child.once('error', reject)
    child.once('exit', (code) => reject(new Error(`chromium ended with ${code}: ${said}`)))
  })
