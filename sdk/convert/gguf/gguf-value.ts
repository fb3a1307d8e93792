/** Kinds of metadata values by their number (ggml's docs/gguf.md, enum gguf_metadata_value_type), and the bytes of one. */
export const GGUF_KINDS = {
  uint8: { id: 0, bytes: 1 },
  int8: { id: 1, bytes: 1 },
  uint16: { id: 2, bytes: 2 },
  int16: { id: 3, bytes: 2 },
  uint32: { id: 4, bytes: 4 },
  int32: { id: 5, bytes: 4 },
  float32: { id: 6, bytes: 4 },
  bool: { id: 7, bytes: 1 },
  /** At least its length. */
  string: { id: 8, bytes: 8 },
  /** At least the kind of its items and their number. */
  array: { id: 9, bytes: 12 },
  uint64: { id: 10, bytes: 8 },
  int64: { id: 11, bytes: 8 },
  float64: { id: 12, bytes: 8 },
} as const
export type GgufKind = keyof typeof GGUF_KINDS

export type GgufScalar = number | bigint | boolean | string

export type GgufValue =
  | { kind: Exclude<GgufKind, 'array'>; value: GgufScalar }
  | { kind: 'array'; of: Exclude<GgufKind, 'array'>; value: GgufScalar[] }

const BY_ID: ReadonlyMap<number, GgufKind> = new Map(
  Object.entries(GGUF_KINDS).map(([kind, { id }]) => [id, kind as GgufKind]),
)

export const ggufKind = (id: number): GgufKind | null => BY_ID.get(id) ?? null
