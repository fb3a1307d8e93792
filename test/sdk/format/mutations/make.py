"""
Makes the seeds and the verdicts of this folder: what Python's safetensors says of CASES mutated files.

    python3 -m venv venv && venv/bin/pip install safetensors==0.8.0 numpy==2.4.6
    venv/bin/python make.py

mutate.ts makes the same files from the same numbers, so the files themselves are not kept: verdicts.json holds the
sha256 over all of them. verdicts.bin has 4 bytes a case: 0 where Python refuses, otherwise the first bytes of the sha256
of what it read (one line a tensor: name, dtype, shape, sha256 of the data; sorted).
"""

import hashlib
import json
import re
import struct
from importlib.metadata import version
from pathlib import Path

import numpy as np
import safetensors

HERE = Path(__file__).parent
CASES = 10_000

DTYPES = (
    "BOOL F4 F6_E2M3 F6_E3M2 U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ "
    "I16 U16 F16 BF16 I32 U32 F32 C64 F64 I64 U64"
).split()
BITS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}


def bits(dtype: str) -> int:
    return BITS.get(dtype) or int(re.match(r"[A-Z]+?(8|16|32|64)", dtype.replace("BF", "F")).group(1))


WRITER_NAMES = {
    "BOOL": "bool",
    "F4": "float4_e2m1fn_x2",
    "U8": "uint8",
    "I8": "int8",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}


def written(tensors: dict, metadata=None) -> bytes:
    """A file as the library's own writer makes it. F4's last dimension is given in bytes, two elements each."""
    held = {name: np.frombuffer(data, np.uint8) for name, (_, _, data) in tensors.items()}
    specs = {
        name: safetensors.TensorSpec(dtype=WRITER_NAMES[dtype], shape=shape, data_ptr=held[name].ctypes.data, data_len=len(data))
        for name, (dtype, shape, data) in tensors.items()
    }
    return bytes(safetensors.serialize(specs, metadata=metadata))


def raw(header: str, data: bytes) -> bytes:
    text = header.encode()
    return struct.pack("<Q", len(text)) + text + data


def every_dtype() -> bytes:
    entries, at = [], 0
    for dtype in DTYPES:
        size = 4 * bits(dtype) // 8
        entries.append(f'"{dtype.lower()}":{{"dtype":"{dtype}","shape":[2,2],"data_offsets":[{at},{at + size}]}}')
        at += size
    return raw("{" + ",".join(entries) + "}", bytes(i % 251 for i in range(at)))


def seeds() -> dict[str, bytes]:
    ramp = lambda n: bytes(i % 253 for i in range(n))
    lora = {
        "base_model.model.q.lora_A.weight": ("F32", [2, 3], ramp(24)),
        "base_model.model.q.lora_B.weight": ("F32", [3, 2], ramp(24)),
    }
    return {
        "lora": written(lora, {"format": "pt"}),
        "mixed": written({"a": ("I64", [1], ramp(8)), "b": ("BF16", [2], ramp(4)), "c": ("U8", [3], ramp(3)), "é": ("F16", [], ramp(2))}),
        "empty": written({"none": ("F32", [0, 7], b""), "one": ("F32", [1], ramp(4))}, {"k": "v", "l": ""}),
        "dtypes": every_dtype(),
        "writer": written(
            {f"t.{dtype}": (dtype, [2, 1] if dtype == "F4" else [2, 2], ramp(4 * bits(dtype) // 8)) for dtype in sorted(WRITER_NAMES)}
        ),
        "tensorless": raw("{}", b""),
        "spaced": raw('{ "x" : {"shape": [1, 2], "data_offsets": [0, 8], "dtype": "F32"} }   ', ramp(8)),
        "zeros": raw('{"z":{"dtype":"F32","shape":[2,0,3],"data_offsets":[4,4]},"y":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', ramp(4)),
    }


class Random:
    """xorshift32 (Marsaglia 2003)."""

    def __init__(self, seed: int):
        self.state = seed & 0xFFFFFFFF or 1

    def below(self, n: int) -> int:
        x = self.state
        x ^= (x << 13) & 0xFFFFFFFF
        x ^= x >> 17
        x ^= (x << 5) & 0xFFFFFFFF
        self.state = x
        return x % n


NUMBERS = (
    "0 1 2 3 4 5 6 7 8 12 16 24 64 -1 -0 1.0 4.0 4e0 1e999 00 04 18446744073709551615 18446744073709551616 "
    '9007199254740991 9007199254740993 4294967296 null "4" [] true 0.5 8.0 1E1'
).split(" ")
STRINGS = [f'"{d}"' for d in DTYPES] + (
    '"__metadata__" "a" "b" "x" "dtype" "shape" "data_offsets" "\\ud800" "\\u0061" "F128" "f32" null 1 {} "" "é" "\\ud83d\\ude00" "q" "\\u0000"'
).split(" ")
INSERTS = [
    " ",
    "\n",
    "\t\r",
    ",",
    ":",
    "{",
    "}",
    "[",
    "]",
    '"',
    '"extra":1,',
    '"extra":{"a":[1,null]},',
    '"__metadata__":null,',
    '"__metadata__":{"k":"v"},',
    '"__metadata__":{"k":"v","k":"w"},',
    '"__metadata__":{"k":1},',
    '"n":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},',
    '"n":["F32",[0],[0,0]],',
    "/**/",
    "\ufeff",
    "[" * 70 + "]" * 70,
    "0",
    "1",
    "-",
    ".0",
    "e0",
]
BYTES = b'{}[]",:0123456789 \n\\u.eE-\x00\xff\x80\xc3'
LENGTHS = [0, 1, 7, 100_000_000, 100_000_001, 8 * 1024 * 1024, 8 * 1024 * 1024 + 1, 2**53, 2**63, 2**64 - 1]


def tokens(pattern: bytes, header: bytes) -> list[tuple[int, int]]:
    return [m.span() for m in re.finditer(pattern, header)]


def replaced(header: bytes, span: tuple[int, int], text: bytes) -> bytes:
    return header[: span[0]] + text + header[span[1] :]


def mutate(case: int, files: list[bytes]) -> bytes:
    r = Random((case + 1) * 0x9E3779B1)
    file = files[r.below(len(files))]
    length = struct.unpack("<Q", file[:8])[0]
    header, data = file[8 : 8 + length], file[8 + length :]
    repair = True
    for _ in range(1 + r.below(2)):
        op = r.below(14)
        if op == 0 and header:
            at = r.below(len(header))
            header = replaced(header, (at, at + 1), bytes([header[at] ^ (1 << r.below(8))]))
        elif op == 1 and header:
            at = r.below(len(header))
            header = replaced(header, (at, at + 1), BYTES[(k := r.below(len(BYTES))) : k + 1])
        elif op == 2 and header:
            at = r.below(len(header))
            header = replaced(header, (at, at + 1 + r.below(8)), b"")
        elif op == 3 and header:
            at = r.below(len(header))
            part = header[at : at + 1 + r.below(24)]
            header = replaced(header, (at, at), part)
        elif op in (4, 5):
            found = tokens(rb"[0-9]+" if op == 4 else rb'"[^"\\]*"', header)
            if found:
                span = found[r.below(len(found))]
                choices = NUMBERS if op == 4 else STRINGS
                header = replaced(header, span, choices[r.below(len(choices))].encode())
        elif op == 6:
            found = tokens(rb'[{}\[\],:]', header)
            if found:
                at = found[r.below(len(found))][1]
                header = replaced(header, (at, at), INSERTS[r.below(len(INSERTS))].encode())
        elif op == 7:
            found = tokens(rb"[0-9]+", header)
            if len(found) > 1:
                first = r.below(len(found) - 1)
                second = first + 1 + r.below(len(found) - first - 1)
                (a, b), (c, d) = found[first], found[second]
                header = header[:a] + header[c:d] + header[b:c] + header[a:b] + header[d:]
        elif op == 8:
            if r.below(2):
                data = data[: max(0, len(data) - 1 - r.below(8))]
            else:
                data = data + bytes(r.below(256) for _ in range(1 + r.below(8)))
        elif op == 9:
            kind = r.below(3)
            if kind == 0:
                length, repair = LENGTHS[r.below(len(LENGTHS))], False
            elif kind == 1:
                length, repair = max(0, len(header) - 4 + r.below(9)), False
            else:
                header = header + b" " * (1 + r.below(8))
        elif op in (10, 11):
            found = tokens(rb'[{}\[\],:]', header)
            if found:
                at = found[r.below(len(found))][1]
                header = replaced(header, (at, at), b" \n\t\r"[(k := r.below(4)) : k + 1])
        elif op == 12 and data:
            at = r.below(len(data))
            data = data[:at] + bytes([data[at] ^ (1 << r.below(8))]) + data[at + 1 :]
        elif op == 13:
            found = tokens(rb'"[^"\\]*":\s*\{', header)
            if found:
                start, end = found[r.below(len(found))]
                header = replaced(header, (start, header.index(b'"', start + 1) + 1), b'"t%d"' % r.below(100))
    if repair:
        length = len(header)
    return struct.pack("<Q", length) + header + data


def verdict(file: bytes) -> bytes:
    try:
        rows = safetensors.deserialize(file)
    except safetensors.SafetensorError:
        return bytes(4)
    lines = sorted(
        "\t".join([name, row["dtype"], ",".join(map(str, row["shape"])), hashlib.sha256(row["data"]).hexdigest()]).encode()
        for name, row in rows
    )
    sum_ = hashlib.sha256(b"\n".join(lines)).digest()[:4]
    return sum_ if any(sum_) else b"\0\0\0\1"


if __name__ == "__main__":
    named = seeds()
    for name, file in named.items():
        safetensors.deserialize(file)
        (HERE / "seeds" / f"{name}.safetensors").parent.mkdir(exist_ok=True)
        (HERE / "seeds" / f"{name}.safetensors").write_bytes(file)
    files = [named[name] for name in sorted(named)]
    corpus, verdicts = hashlib.sha256(), bytearray()
    for case in range(CASES):
        mutated = mutate(case, files)
        corpus.update(struct.pack("<I", len(mutated)) + mutated)
        verdicts += verdict(mutated)
    accepted = sum(any(verdicts[i : i + 4]) for i in range(0, len(verdicts), 4))
    (HERE / "verdicts.bin").write_bytes(verdicts)
    summary = {"accepted": accepted, "cases": CASES, "corpus": corpus.hexdigest(), "safetensors": version("safetensors")}
    (HERE / "verdicts.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(summary)
