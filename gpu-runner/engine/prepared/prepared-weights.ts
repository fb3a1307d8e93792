import { createHash } from 'node:crypto'
import { closeSync, createReadStream, fsyncSync, openSync, writeSync } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { GraftError } from '@graft/sdk/format/errors.ts'
import { temporaryBeside, writeWhole } from '../../write-whole.ts'
import {
  aligned,
  type MakeWeight,
  type Place,
  piecesOf,
  type WeightFile,
} from '../graph/weight-file.ts'

/** Index of a prepared base: what its weights file holds. */
interface Index {
  bytes: number
  sha256: string
  weights: Record<string, [offset: number, length: number]>
}

const WEIGHTS = 'weights.bin'
const INDEX = 'index.json'

/**
 * A base's weights at one precision in a file that sessions map instead of reading: made once, one weight in memory at
 * a time. Complete once the index stands beside it; what a process leaves half written is never looked at.
 */
export class PreparedWeights implements WeightFile {
  readonly name = WEIGHTS
  readonly folder: string
  readonly #places: Map<string, Place>
  #writing: { file: number; path: string; hash: ReturnType<typeof createHash>; used: number } | null

  private constructor(folder: string, index: Index | null) {
    this.folder = folder
    this.#places = new Map(
      Object.entries(index?.weights ?? {}).map(([name, [offset, length]]) => [
        name,
        { offset, length },
      ]),
    )
    this.#writing = null
    if (index) return
    const path = temporaryBeside(join(folder, WEIGHTS))
    this.#writing = { file: openSync(path, 'w'), path, hash: createHash('sha256'), used: 0 }
  }

  /** Opens what is prepared there, or begins to prepare. A file that is not what its index says is made anew. */
  static async open(folder: string): Promise<PreparedWeights> {
    await mkdir(folder, { recursive: true })
    const index = await readIndex(folder)
    if (!index) await removeAbandoned(folder)
    return new PreparedWeights(folder, index)
  }

  get complete(): boolean {
    return this.#writing === null
  }

  place(weight: string, make: MakeWeight): Place {
    const known = this.#places.get(weight)
    if (known) return known
    if (!this.#writing)
      throw new GraftError(
        'ERR_INTERNAL',
        `${join(this.folder, WEIGHTS)} lacks ${weight}; remove the folder, and it is prepared anew`,
      )
    const writing = this.#writing
    const offset = writing.used
    const write = (bytes: Uint8Array): void => {
      for (let at = 0; at < bytes.length; )
        at += writeSync(writing.file, bytes, at, bytes.length - at, writing.used + at)
      writing.hash.update(bytes)
      writing.used += bytes.length
    }
    for (const piece of piecesOf(make())) write(piece)
    const place = { offset, length: writing.used - offset }
    write(new Uint8Array(aligned(writing.used) - writing.used))
    this.#places.set(weight, place)
    return place
  }

  /** Makes what was placed permanent. */
  async seal(): Promise<void> {
    if (!this.#writing) return
    const { file, path, hash, used } = this.#writing
    fsyncSync(file)
    closeSync(file)
    this.#writing = null
    await rename(path, join(this.folder, WEIGHTS))
    const index: Index = {
      bytes: used,
      sha256: hash.digest('hex'),
      weights: Object.fromEntries(
        [...this.#places].map(([name, { offset, length }]) => [name, [offset, length]]),
      ),
    }
    await writeWhole(join(this.folder, INDEX), JSON.stringify(index))
  }

  /** Gives up what was begun. */
  async abandon(): Promise<void> {
    if (!this.#writing) return
    const { file, path } = this.#writing
    this.#writing = null
    closeSync(file)
    await rm(path, { force: true })
  }

  /** Writes a model beside the weights. @returns its path */
  async addModel(name: string, model: Uint8Array): Promise<string> {
    const path = join(this.folder, `${name}.onnx`)
    await writeWhole(path, model)
    return path
  }
}

/** What processes that are no more were writing. */
async function removeAbandoned(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const pid = Number(/\.(\d+)-[\da-f-]+\.tmp$/.exec(name)?.[1])
    if (pid > 0 && !isAlive(pid)) await rm(join(folder, name), { force: true })
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (e) {
    return (e as NodeJS.ErrnoException).code === 'EPERM'
  }
}

async function readIndex(folder: string): Promise<Index | null> {
  const path = join(folder, WEIGHTS)
  const text = await readFile(join(folder, INDEX), 'utf8').catch(() => null)
  const size = await stat(path).then(
    (found) => found.size,
    () => -1,
  )
  if (text === null || size < 0) return null
  let index: Index
  try {
    index = JSON.parse(text) as Index
  } catch {
    return null
  }
  if (index.bytes !== size) return null
  const hash = createHash('sha256')
  await pipeline(createReadStream(path, { highWaterMark: 2 ** 20 }), hash)
  return hash.digest('hex') === index.sha256 ? index : null
}
