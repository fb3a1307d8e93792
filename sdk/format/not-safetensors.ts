import { type ErrorCode, GraftError } from './errors.ts'

const CONVERT =
  "loading it can run code; where you trust the file, load it in its own tool and save it with safetensors' save_file"

/** First bytes of what people call model.safetensors by mistake or malice. */
const OTHERS: [first: number[] | string, code: ErrorCode, what: string][] = [
  [
    'version https://git-lfs',
    'ERR_SAFETENSORS_INVALID',
    'a Git LFS pointer, not the weights; fetch them with `git lfs pull`',
  ],
  ['PK\x03\x04', 'ERR_PICKLE_REFUSED', `a ZIP archive as torch.save writes it: ${CONVERT}`],
  ...[2, 3, 4, 5].map((protocol): [number[], ErrorCode, string] => [
    [0x80, protocol],
    'ERR_PICKLE_REFUSED',
    `a pickle: ${CONVERT}`,
  ]),
  ['GGUF', 'ERR_SAFETENSORS_INVALID', 'GGUF'],
  ['\x89HDF\r\n', 'ERR_SAFETENSORS_INVALID', 'HDF5'],
  ['\x93NUMPY', 'ERR_SAFETENSORS_INVALID', 'a NumPy array'],
]

/**
 * Names the format of a file whose first eight bytes are no header length. Each of these starts, read as a length, is
 * beyond what a header may have, so an honest file is never taken for another.
 * @throws ERR_PICKLE_REFUSED, ERR_SAFETENSORS_INVALID
 */
export function refuseOtherFormat(bytes: Uint8Array): void {
  for (const [first, code, what] of OTHERS) {
    const codes = typeof first === 'string' ? [...first].map((c) => c.charCodeAt(0)) : first
    if (codes.every((byte, i) => bytes[i] === byte))
      throw new GraftError(code, `the file is ${what}; it must be safetensors`)
  }
}
