"""JSON, references and safetensors files."""

import json

import numpy as np
import rfc8785
from safetensors.numpy import save

from .kit import b64, case, f32, file, refused, sha256

def canonical_json() -> None:
    def accepts(id: str, text: str) -> None:
        value = json.loads(text, parse_int=float)
        case(f"json/{id}", "canonical-json", {"text": rfc8785.dumps(value).decode()}, input=b64(text.encode()))

    accepts("order", '{ "b": 1, "a": [true, null, "x"], "": 0 }')
    accepts("order-by-utf16", '{"\\ufb33":1,"\\ud83d\\ude00":2,"\\u20ac":3,"\\r":4,"1":5,"\\u0080":6,"\\u00f6":7}')
    accepts("numbers", "[333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001, -0, 1e21, 123456789012345680000]")
    accepts("escapes", '"\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/"')
    for id, data in {
        "duplicate-name": b'{"a":1,"a":2}',
        "duplicate-name-escaped": b'{"a":1,"\\u0061":2}',
        "duplicate-name-deep": b'[{"x":{"y":1,"y":1}}]',
        "beyond-f64": b"[1e999]",
        "lone-surrogate": b'["\\ud800"]',
        "not-utf8": b'["\xff"]',
        "byte-order-mark": b"\xef\xbb\xbf{}",
        "trailing-comma": b"[1,]",
        "nested-65-deep": b"[" * 65 + b"]" * 65,
        "trailing-text": b"{} {}",
        "leading-zero": b"[01]",
        "control-character": b'["\x01"]',
    }.items():
        case(f"json/refuses-{id}", "canonical-json", refused("ERR_JSON_INVALID"), input=b64(data))


def references() -> None:
    digest = "sha256:" + "ab" * 32
    adapter = lambda package, selector, weight="1": {"package": package, "selector": selector, "weight": weight}
    tag = lambda name: {"kind": "tag", "tag": name}
    range_ = lambda text: {"kind": "range", "range": text}

    def accepts(text: str, *terms: dict, base: str | None = None) -> None:
        answer = {"base": base} if base else {"terms": list(terms)}
        case(f"reference/{text}", "reference", {"reference": answer}, text=text)

    accepts("graft-tiny", base="graft-tiny")
    accepts("meta-llama/Llama-3.2-1B", base="meta-llama/Llama-3.2-1B")
    accepts("@acme/sql", adapter("@acme/sql", tag("latest")))
    accepts("@acme/sql@beta", adapter("@acme/sql", tag("beta")))
    accepts("@acme/sql@^1.2", adapter("@acme/sql", range_("^1.2")))
    accepts("@acme/sql@x", adapter("@acme/sql", range_("x")))
    accepts("@acme/sql@>=1.2 <2 || 3.x", adapter("@acme/sql", range_(">=1.2 <2 || 3.x")))
    accepts(f"@acme/sql@{digest}", adapter("@acme/sql", {"kind": "digest", "digest": digest}))
    accepts(
        "0.70(@a/x@^1) + -0.3(@b/y@2.0.0+build.1)",
        adapter("@a/x", range_("^1"), "0.7"),
        adapter("@b/y", range_("2.0.0+build.1"), "-0.3"),
    )
    for text in [
        *["", "@acme", "@Acme/sql", "@acme/sql@", "@acme/sql@sha256:12", "@acme/sql@Latest!", "a/b/c", "0(@a/x@1)"],
        *["1e3(@a/x@1)", "00.5(@a/x@1)", "0.5(@a/x@1)+", "0.5(graft-tiny)", "@a/x@1+@b/y@1", "../x", "@a/x@1.2.3.4"],
        *["12345(@a/x@1)", "0.0000000001(@a/x@1)", "+".join(["0.1(@a/x@1)"] * 17)],
    ]:
        case(f"reference/refuses-{text[:40]}", "reference", refused("ERR_REFERENCE_INVALID"), text=text)


def raw_file(header: str, data: bytes = b"", length: int | None = None) -> bytes:
    text = header.encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(begin: int, end: int, shape: str = "[1]", dtype: str = "F32") -> str:
    return f'{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}'


def safetensors_files() -> None:
    tensors = {"b": f32(2, 3), "a": np.arange(4, dtype=np.int64), "é": f32(1).astype(np.float16), "none": f32(0, 2)}
    names = {"float32": "F32", "float16": "F16", "int64": "I64"}
    rows = [
        {"name": n, "dtype": names[t.dtype.name], "shape": list(t.shape), "sha256": sha256(t.tobytes())}
        for n, t in sorted(tensors.items())
    ]
    written = save(tensors, {"format": "pt"})
    case("safetensors/reads", "safetensors", {"tensors": rows, "metadata": {"format": "pt"}}, file=file("safetensors/mixed.safetensors", written))
    listed = [{"name": n, "dtype": names[t.dtype.name], "shape": list(t.shape), "data": b64(t.tobytes())} for n, t in tensors.items()]
    case("safetensors/writes", "write-safetensors", {"sha256": sha256(written)}, tensors=listed, metadata={"format": "pt"})
    case("safetensors/writes-no-tensors", "write-safetensors", {"sha256": sha256(save({}))}, tensors=[], metadata={})
    case("safetensors/reads-null-metadata", "safetensors", {"tensors": [], "metadata": {}}, data=b64(raw_file('{"__metadata__":null}')))
    one = entry(0, 4)
    four = bytes(4)
    invalid, pickle = "ERR_SAFETENSORS_INVALID", "ERR_PICKLE_REFUSED"
    for id, (data, code) in {
        "empty": (b"", invalid),
        "length-beyond-file": (raw_file("{}", length=3), invalid),
        "header-over-8-mib": (raw_file("{}", length=8 * 1024 * 1024 + 1), invalid),
        "header-of-2-64": (raw_file("{}", length=2**64 - 1), invalid),
        "header-not-an-object": (raw_file("[]"), invalid),
        "header-after-a-space": (raw_file(" {}"), invalid),
        "duplicate-tensor": (raw_file(f'{{"a":{one},"a":{one}}}', four), invalid),
        "duplicate-metadata": (raw_file('{"__metadata__":{"k":"1","k":"2"}}'), invalid),
        "metadata-number": (raw_file('{"__metadata__":{"k":1}}'), invalid),
        "unknown-member": (raw_file(f'{{"a":{{"x":1,{one[1:]}}}', four), invalid),
        "entry-as-a-list": (raw_file('{"a":["F32",[1],[0,4]]}', four), invalid),
        "overlap": (raw_file(f'{{"a":{one},"b":{entry(2, 6)}}}', bytes(6)), invalid),
        "gap": (raw_file(f'{{"a":{one},"b":{entry(8, 12)}}}', bytes(12)), invalid),
        "gap-at-the-start": (raw_file(f'{{"a":{entry(4, 8)}}}', bytes(8)), invalid),
        "trailing-bytes": (raw_file(f'{{"a":{one}}}', bytes(5)), invalid),
        "truncated": (raw_file(f'{{"a":{one}}}', bytes(3)), invalid),
        "size-unlike-shape": (raw_file(f'{{"a":{entry(0, 8)}}}', bytes(8)), invalid),
        "overflow-before-zero": (raw_file(f'{{"a":{entry(0, 0, "[9007199254740991,9007199254740991,0]")}}}'), invalid),
        "float-offset": (raw_file('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4.0]}}', four), invalid),
        "negative-zero": (raw_file('{"a":{"dtype":"F32","shape":[1],"data_offsets":[-0,4]}}', four), invalid),
        "negative-dimension": (raw_file(f'{{"a":{entry(0, 4, "[-1,-1]")}}}', four), invalid),
        "half-a-byte": (raw_file(f'{{"a":{entry(0, 1, "[1]", "F4")}}}', b"\0"), invalid),
        "unknown-dtype": (raw_file(f'{{"a":{entry(0, 4, "[1]", "F128")}}}', four), invalid),
        "lfs-pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", invalid),
        "zip": (b"PK\x03\x04" + bytes(60), pickle),
        "pickle": (b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01K\x01u." + bytes(20), pickle),
    }.items():
        case(f"safetensors/refuses-{id}", "safetensors", refused(code), data=b64(data))
