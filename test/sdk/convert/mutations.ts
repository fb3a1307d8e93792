import { mkdirSync } from 'node:fs'

/** The folder that a mutation recipe writes to: its first argument. */
export function folderToWrite(): string {
  const [, , folder] = process.argv
  if (folder === undefined) throw new Error('give a folder to write to')
  mkdirSync(folder, { recursive: true })
  return folder
}

/** Whole numbers below a limit, the same every time (Numerical Recipes' generator, upper bits). */
export function createBelow(): (limit: number) => number {
  let state = 7
  return (limit) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * limit)
  }
}
