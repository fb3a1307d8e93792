import { startSteady } from './steady-memory.ts'

// The program's first import: nothing else has run yet, so that starting again costs next to nothing.
startSteady()
