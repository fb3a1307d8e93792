import { openRegistry } from './fixtures.ts'
import { logContract } from './log-contract.ts'

logContract('Node', (witness) => openRegistry({ witnesses: [witness] }))
