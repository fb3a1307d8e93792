"""A GGUF v3 file of F32 tensors (ggml's docs/gguf.md)."""

import struct

import numpy as np

ALIGNMENT = 32


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def gguf(metadata: dict[str, str | float | int], tensors: dict[str, np.ndarray]) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        kind, packed = (
            (8, text(value))
            if isinstance(value, str)
            else (6, struct.pack("<f", value))
            if isinstance(value, float)
            else (4, struct.pack("<I", value))
        )
        head += text(key) + struct.pack("<I", kind) + packed
    data = b""
    for name, tensor in tensors.items():
        # ne counts from the fastest axis.
        sizes = struct.pack(f"<{tensor.ndim}Q", *tensor.shape[::-1])
        head += text(name) + struct.pack("<I", tensor.ndim) + sizes + struct.pack("<IQ", 0, len(data))
        data += tensor.tobytes() + bytes(-tensor.nbytes % ALIGNMENT)
    return head + bytes(-len(head) % ALIGNMENT) + data
