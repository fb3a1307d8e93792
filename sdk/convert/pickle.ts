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

export const pickled = (path: string): GraftError =>
  new GraftError(
    'ERR_PICKLE_REFUSED',
    `${path} is a pickle, which can run code when it is read. Save again as safetensors (PEFT: save_pretrained(dir), adapters: save_adapter(dir, name, use_safetensors=True)), or convert: safetensors.torch.save_file({k: v.clone() for k, v in torch.load("${path}", weights_only=True).items()}, out)`,
  )
