import { afterAll } from 'vitest'
import { openRegistry } from './fixtures.ts'
import { signInContract } from './sign-in.ts'

let now = Date.now()
const opening = openRegistry({ clock: () => new Date(now) })
afterAll(async () => (await opening).close())

signInContract('Node', async () => ({
  app: (await opening).app,
  wait: (seconds) => {
    now += seconds * 1000
  },
}))
