import { afterAll } from 'vitest'
import { openRegistry } from './fixtures.ts'
import { membersContract } from './members.ts'

const opening = openRegistry()
afterAll(async () => (await opening).close())

membersContract('Node', async () => opening)
