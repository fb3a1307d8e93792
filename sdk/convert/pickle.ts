import { GraftError } from '@graft/sdk/format/errors.ts'

export const startsWith = (
  bytes: Uint8Array | undefined,
  magic: readonly number[],
  at = 0,
): boolean => bytes !== undefined && magic.every((byte, i) => bytes[at + i] === byte)

/**
 * A zip or a pickle, whatever the file is called: torch.save writes both. A safetensors header of 0x0280 bytes begins
 * with the same two, but zeros follow, and no opcode is 0.
 */
export const isPickle = (head: Uint8Array): boolean =>
  startsWith(head, [0x50, 0x4b, 0x03, 0x04]) || (startsWith(head, [0x80, 0x02]) && head[2] !== 0)

/** What each tool calls the same weights as safetensors; other names only change their ending. */
const SAFE_NAMES: Readonly<Record<string, string>> = {
  'pytorch_adapter.bin': 'adapter.safetensors',
  'pytorch_model_head.bin': 'model_head.safetensors',
}

/** Lines of Python that make safetensors of a pickle and run nothing of it; clones, because tensors may share memory. */
export function convertPickle(path: string): string {
  // People paste this into a shell: a name that a shell would read otherwise is not shown to it.
  if (!/^[\w./-]+$/.test(path)) return convertPickle('FILE.bin')
  const slash = path.lastIndexOf('/') + 1
  const name = path.slice(slash)
  const safe =
    path.slice(0, slash) + (SAFE_NAMES[name] ?? `${name.replace(/\.[^.]*$/, '')}.safetensors`)
  return `python -c 'import torch; from safetensors.torch import save_file; save_file({k: v.clone().contiguous() for k, v in torch.load("${path}", weights_only=True).items()}, "${safe}")'`
}

export const pickled = (path: string): GraftError =>
  new GraftError(
    'ERR_PICKLE_REFUSED',
    `${path} is a pickle, which can run code when it is read. Save again as safetensors (PEFT: save_pretrained(dir); adapters: save_adapter(dir, name, use_safetensors=True), which cannot save prefixes), or convert it in its folder: ${convertPickle(path)}`,
  )
