import { nestAbsmax, unnestAbsmax } from './double-quantisation.ts'
import { dequantizeNf4, type Nf4, quantizeNf4 } from './nf4.ts'

/**
 * NF4 of floats that somebody holds on to. Of floats that came from NF4 it is what they came from: quantising them anew
 * would round the absmax a second time.
 */
const known = new WeakMap<Float32Array, Nf4>()

/** W as QLoRA holds it, its absmax quantised too; floats that `floatsOf` gave are their own codes again. */
export function nf4Of(w: Float32Array): Nf4 {
  const found = known.get(w)
  if (found) return found
  const { codes, absmax } = quantizeNf4(w)
  const nf4 = { codes, absmax: unnestAbsmax(nestAbsmax(absmax)) }
  known.set(w, nf4)
  return nf4
}

export function floatsOf(nf4: Nf4): Float32Array {
  const w = dequantizeNf4(nf4)
  known.set(w, nf4)
  return w
}

/** Weights one below the other; each was quantised by itself. */
export function concatenateNf4(parts: Nf4[]): Nf4 {
  if (parts.length === 1) return parts[0]!
  const total = (of: (part: Nf4) => number) => parts.reduce((sum, part) => sum + of(part), 0)
  const codes = new Uint8Array(total((part) => part.codes.length))
  const absmax = new Float32Array(total((part) => part.absmax.length))
  let [code, block] = [0, 0]
  for (const part of parts) {
    codes.set(part.codes, code)
    absmax.set(part.absmax, block)
    code += part.codes.length
    block += part.absmax.length
  }
  return { codes, absmax }
}
