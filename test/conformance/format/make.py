"""
Makes fixtures/ again: the cases of the conformance kit and their answers, in NumPy and other people's libraries only.

    python3 -m venv venv && venv/bin/pip install numpy==2.4.6 safetensors==0.8.0 rfc8785==0.1.4 cryptography==50.0.2
    venv/bin/python make.py

Deterministic: the same files byte for byte. Nothing here reads Graft's code; SPEC.md is what both follow.
"""

import base64
import copy
import hashlib
import json
import pathlib
import shutil

import numpy as np
import rfc8785
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from safetensors.numpy import save

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
random = np.random.default_rng(20261125)
cases: list[dict] = []
answers: dict[str, dict] = {}


def case(id: str, kind: str, answer: dict, **given) -> None:
    assert id not in answers, id
    cases.append({"id": id, "kind": kind, **given})
    answers[id] = answer


def refused(code: str) -> dict:
    return {"error": code}


def file(path: str, data: bytes) -> str:
    target = FIXTURES / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return path


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def f32(*shape: int, scale: float = 0.5) -> np.ndarray:
    return (random.standard_normal(shape) * scale).astype(np.float32)


def wide(*arrays: np.ndarray) -> list[np.ndarray]:
    return [a.astype(np.float64) for a in arrays]


# ---------------------------------------------------------------- JSON, references, safetensors

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


# ---------------------------------------------------------------- a base

HIDDEN, FFN, VOCAB, HEADS = 8, 12, 16, 4
ROOT = "model.layers.0"
Q, K, DOWN = f"{ROOT}.self_attn.q_proj", f"{ROOT}.self_attn.k_proj", f"{ROOT}.mlp.down_proj"
EMBEDDING, CONV, EXPERTS = "model.embed_tokens", f"{ROOT}.conv", f"{ROOT}.mlp.experts.down_proj"

BASE = {
    f"{EMBEDDING}.weight": f32(VOCAB, HIDDEN),
    f"{ROOT}.input_layernorm.weight": f32(HIDDEN) + 1,
    f"{Q}.weight": f32(HIDDEN, HIDDEN),
    f"{Q}.bias": f32(HIDDEN),
    f"{K}.weight": f32(4, HIDDEN),
    f"{ROOT}.self_attn.v_proj.weight": f32(4, HIDDEN),
    f"{ROOT}.self_attn.o_proj.weight": f32(HIDDEN, HIDDEN),
    f"{DOWN}.weight": f32(HIDDEN, FFN),
    f"{CONV}.weight": f32(6, HIDDEN, 3, 3),
    EXPERTS: f32(3, 6, HIDDEN),
    "model.norm.weight": f32(HIDDEN) + 1,
}
CONFIG = b'{"architectures":["LlamaForCausalLM"],"model_type":"llama"}'
TOKENIZER = b'{"version":"1.0"}'


def lines(dtypes: bool) -> str:
    rows = [f"{n}\t" + ("F32\t" if dtypes else "") + ",".join(map(str, t.shape)) + "\n" for n, t in BASE.items()]
    return sha256("".join(sorted(rows)).encode())


def base_identity() -> dict:
    weights = save(BASE, {"format": "pt"})
    file("base/model.safetensors", weights)
    file("base/config.json", CONFIG)
    file("base/tokenizer.json", TOKENIZER)
    identity = {
        "name": "kit",
        "architecture": "LlamaForCausalLM",
        "modelType": "llama",
        "files": [{"path": "model.safetensors", "size": len(weights), "sha256": sha256(weights)}],
        "structure": lines(False),
        "structureWithDtype": lines(True),
        "configDigest": sha256(CONFIG),
        "tokenizerDigest": sha256(TOKENIZER),
        "quantization": None,
    }
    digest = sha256(rfc8785.dumps(identity))
    given = {"name": "kit", "config": "base/config.json", "tokenizer": "base/tokenizer.json"}
    case("base/one-file", "base", {"identity": identity, "digest": digest}, **given, weights=["base/model.safetensors"])
    names = sorted(BASE)
    halves = [save({n: BASE[n] for n in part}) for part in (names[:5], names[5:])]
    paths = [file(f"base/model-0000{i}-of-00002.safetensors", half) for i, half in enumerate(halves, 1)]
    sharded = {
        **identity,
        "tokenizerDigest": None,
        "files": [{"path": p[5:], "size": len(h), "sha256": sha256(h)} for p, h in zip(paths, halves)],
    }
    case(
        "base/two-files-in-any-order",
        "base",
        {"identity": sharded, "digest": sha256(rfc8785.dumps(sharded))},
        **{**given, "tokenizer": None},
        weights=paths[::-1],
    )
    twice = {**given, "weights": ["base/model.safetensors", paths[0]]}
    case("base/refuses-a-tensor-in-two-files", "base", refused("ERR_CHECKPOINT_INVALID"), **twice)
    bare = file("base/no-architecture.json", b'{"model_type":"llama"}')
    case("base/refuses-no-architecture", "base", refused("ERR_CHECKPOINT_INVALID"), **{**given, "config": bare}, weights=paths)
    return identity


# ---------------------------------------------------------------- adapters

DTYPES = {"float32": "F32", "float16": "F16", "float64": "F64", "int64": "I64", "int32": "I32"}


def adapter(operations: list[dict], tensors: dict[str, np.ndarray], **more) -> tuple[dict, bytes]:
    weights = save(tensors)
    manifest = {
        "schema": "graft.adapter/1",
        "name": "@kit/adapter",
        "version": "1.0.0",
        "base": IDENTITY,
        "method": {"family": "kit", "flags": []},
        "operations": operations,
        "tensors": [
            {"name": n, "dtype": DTYPES[t.dtype.name], "shape": list(t.shape), "sha256": sha256(t.tobytes())}
            for n, t in sorted(tensors.items())
        ],
        "files": [
            {
                "path": "adapter.safetensors",
                "size": len(weights),
                "sha256": sha256(weights),
                "role": "canonical",
                "mediaType": "application/vnd.safetensors",
            }
        ],
        "origin": None,
        "crit": [],
        **more,
    }
    return manifest, weights


def stored(id: str, manifest: dict, weights: bytes) -> dict:
    return {
        "manifest": file(f"adapters/{id}/adapter.json", rfc8785.dumps(manifest)),
        "weights": file(f"adapters/{id}/adapter.safetensors", weights),
        "base": "base/model.safetensors",
    }


def rounded(y: np.ndarray) -> list:
    return [[float(f"{v:.9g}") for v in row] for row in np.atleast_2d(y)]


def evaluated(id: str, operation: dict, tensors: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray, norm: float | None, **given) -> None:
    """Two cases: what the adapted site answers to the rows of x, and the norm of its change."""
    where = stored(id, *adapter([operation], tensors))
    site = operation["site"]
    case(f"operation/{id}", "evaluate", {"y": rounded(y)}, **where, site=site, x=rounded(x), **given)
    case(f"norm/{id}", "norms", {"norms": {site: None if norm is None else float(f"{norm:.9g}")}}, **where)
    case(f"verify/{id}", "verify", {"verified": True}, **where)


def named(site: str, slots: dict[str, tuple[str, np.ndarray]]) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    names = {slot: f"{site}::{name}" for slot, (name, _) in slots.items()}
    return names, {names[slot]: tensor for slot, (_, tensor) in slots.items()}


def linear_of(site: str) -> tuple[np.ndarray, np.ndarray]:
    w = BASE[f"{site}.weight"].astype(np.float64)
    return w, BASE.get(f"{site}.bias", np.zeros(len(w))).astype(np.float64)


def low_rank() -> None:
    w, b = linear_of(Q)
    x = f32(3, HIDDEN)
    head = {"op": "low_rank", "site": Q, "in": HIDDEN, "out": HIDDEN}
    A, B, bias, E, D = f32(2, HIDDEN), f32(HIDDEN, 2), f32(HIDDEN), f32(2), f32(HIDDEN)
    for id, scale, with_bias, with_e, with_d in [
        ("low-rank", "0.5", False, False, False),
        ("low-rank-bias", "-1.25", True, False, False),
        ("low-rank-factors", "0.7071067811865476", True, True, True),
        ("low-rank-rank-factors", "2", False, True, False),
    ]:
        slots = {"A": ("lora.A", A), "B": ("lora.B", B)}
        if with_bias:
            slots["Bbias"] = ("lora.Bbias", bias)
        if with_e:
            slots["E"] = ("lora.E", E)
        if with_d:
            slots["D"] = ("lora.D", D)
        names, tensors = named(Q, slots)
        s = float(scale)
        dW = s * (D.astype(np.float64)[:, None] if with_d else 1) * (B.astype(np.float64) @ ((E if with_e else np.ones(2)).astype(np.float64)[:, None] * A))
        y = x @ (w + dW).T + b + s * (bias if with_bias else 0)
        evaluated(id, {**head, "rank": 2, "scale": scale, "slots": names}, tensors, x, y, np.linalg.norm(dW))
    halves = {"A": ("lora.A", A.astype(np.float16)), "B": ("lora.B", B.astype(np.float16))}
    names, tensors = named(Q, halves)
    dW = tensors[names["B"]].astype(np.float64) @ tensors[names["A"]].astype(np.float64)
    evaluated("low-rank-f16", {**head, "rank": 2, "scale": "1", "slots": names}, tensors, x, x @ (w + dW).T + b, np.linalg.norm(dW))


def stacks_and_kernels() -> None:
    table = BASE[f"{EMBEDDING}.weight"].astype(np.float64)
    A, B = f32(2, VOCAB), f32(HIDDEN, 2)
    names, tensors = named(EMBEDDING, {"A": ("lora.A", A), "B": ("lora.B", B)})
    dW = 1.5 * B.astype(np.float64) @ A
    ids = np.array([[0, 5, 15]])
    op = {"op": "low_rank", "site": EMBEDDING, "in": VOCAB, "out": HIDDEN, "rank": 2, "scale": "1.5", "slots": names}
    evaluated("low-rank-embedding", op, tensors, ids, table[ids[0]] + dW.T[ids[0]], np.linalg.norm(dW), input="tokens")

    A, B = f32(3, 2, HIDDEN), f32(3, 6, 2)
    names, tensors = named(EXPERTS, {"A": ("lora.A", A), "B": ("lora.B", B)})
    dW = 0.25 * B.astype(np.float64) @ A
    x = f32(1, HIDDEN)
    y = np.einsum("eoi,i->eo", BASE[EXPERTS] + dW, x[0].astype(np.float64))
    op = {"op": "low_rank", "site": EXPERTS, "in": HIDDEN, "out": 6, "rank": 2, "scale": "0.25", "experts": 3, "slots": names}
    evaluated("low-rank-experts", op, tensors, x, y, np.linalg.norm(dW), input="experts")

    A, B = f32(2, HIDDEN, 3, 3), f32(6, 2, 1, 1)
    names, tensors = named(CONV, {"A": ("lora.A", A), "B": ("lora.B", B)})
    dW = 0.5 * np.einsum("or,rikl->oikl", B[:, :, 0, 0].astype(np.float64), A)
    patch = f32(1, HIDDEN * 9)
    y = (BASE[f"{CONV}.weight"] + dW).reshape(6, -1) @ patch[0].astype(np.float64)
    op = {"op": "low_rank", "site": CONV, "in": HIDDEN, "out": 6, "rank": 2, "scale": "0.5", "kernel": [3, 3], "slots": names}
    evaluated("low-rank-kernel", op, tensors, patch, y[None], np.linalg.norm(dW), input="patch")


def other_linear() -> None:
    w, b = linear_of(Q)
    x = f32(3, HIDDEN)
    A, B, m = f32(2, HIDDEN), f32(HIDDEN, 2), f32(HIDDEN) + 2
    names, tensors = named(Q, {"A": ("lora.A", A), "B": ("lora.B", B), "m": ("lora.mag", m)})
    dW = 2 * B.astype(np.float64) @ A
    g = m / np.linalg.norm(w + dW, axis=1)
    op = {"op": "magnitude", "site": Q, "in": HIDDEN, "out": HIDDEN, "rank": 2, "scale": "2", "slots": names}
    evaluated("magnitude", op, tensors, x, g * (x @ (w + dW).T) + b, np.linalg.norm(dW))

    for side, y in [("output", lambda l: l * (x @ w.T + b)), ("input", lambda l: (x * l) @ w.T + b)]:
        l = f32(HIDDEN) + 1
        names, tensors = named(Q, {"l": ("ia3.l", l)})
        op = {"op": "scale", "site": Q, "side": side, "size": HIDDEN, "slots": names}
        evaluated(f"scale-{side}", op, tensors, x, y(l.astype(np.float64)), None)

    value = f32(HIDDEN, HIDDEN)
    names, tensors = named(Q, {"value": ("full.w", value)})
    op = {"op": "replace", "site": Q, "param": "weight", "shape": [HIDDEN, HIDDEN], "slots": names}
    evaluated("replace-weight", op, tensors, x, x @ value.T.astype(np.float64) + b, None)
    value = f32(HIDDEN)
    names, tensors = named(Q, {"value": ("full.b", value)})
    op = {"op": "replace", "site": Q, "param": "bias", "shape": [HIDDEN], "slots": names}
    evaluated("replace-bias", op, tensors, x, x @ w.T + value, None)
    value = f32(2, HIDDEN)
    names, tensors = named(EMBEDDING, {"value": ("tok.rows", value)})
    op = {"op": "replace", "site": EMBEDDING, "param": "weight", "shape": [2, HIDDEN], "rows": [3, 9], "slots": names}
    table = BASE[f"{EMBEDDING}.weight"].copy()
    table[[3, 9]] = value
    ids = np.array([[2, 3, 9]])
    evaluated("replace-rows", op, tensors, ids, table[ids[0]], None, input="tokens")


def cayley(q: np.ndarray) -> np.ndarray:
    one = np.eye(len(q))
    return (one - q) @ np.linalg.inv(one + q)


def skew(row: np.ndarray, size: int) -> np.ndarray:
    q = np.zeros((size, size))
    q[np.triu_indices(size, 1)] = row
    return q - q.T


def block_diagonal(blocks: list[np.ndarray]) -> np.ndarray:
    size = len(blocks[0])
    whole = np.zeros((size * len(blocks),) * 2)
    for i, block in enumerate(blocks):
        whole[i * size : (i + 1) * size, i * size : (i + 1) * size] = block
    return whole


def dense() -> None:
    w, b = linear_of(Q)
    x = f32(3, HIDDEN)
    head = {"op": "dense", "site": Q, "in": HIDDEN, "out": HIDDEN}

    def matrix_case(id: str, fields: dict, slots: dict, dW: np.ndarray, known: bool = True) -> None:
        names, tensors = named(Q, slots)
        norm = np.linalg.norm(dW) if known else None
        evaluated(id, {**head, **fields, "slots": names}, tensors, x, x @ (w + dW).T + b, norm)

    dW = f32(HIDDEN, HIDDEN)
    matrix_case("dense-matrix", {"form": "matrix"}, {"dW": ("dense.w", dW)}, dW.astype(np.float64))

    w1a, w1b, w2a, w2b = f32(HIDDEN, 2), f32(2, HIDDEN), f32(HIDDEN, 2), f32(2, HIDDEN)
    slots = {"w1a": ("loha.w1a", w1a), "w1b": ("loha.w1b", w1b), "w2a": ("loha.w2a", w2a), "w2b": ("loha.w2b", w2b)}
    a, c = wide(w1a, w2a)
    matrix_case("dense-hadamard", {"form": "hadamard", "rank": 2, "scale": "0.5"}, slots, 0.5 * (a @ w1b) * (c @ w2b))

    w1, w2 = f32(2, 4), f32(4, 2)
    shapes = {"form": "kronecker", "scale": "1.5", "shape1": [2, 4], "shape2": [4, 2]}
    matrix_case("dense-kronecker", shapes, {"w1": ("lokr.w1", w1), "w2": ("lokr.w2", w2)}, 1.5 * np.kron(*wide(w1, w2)))
    w2a, w2b = f32(4, 1), f32(1, 2)
    matrix_case(
        "dense-kronecker-factored",
        {**shapes, "rank2": 1},
        {"w1": ("lokr.w1", w1), "w2a": ("lokr.w2a", w2a), "w2b": ("lokr.w2b", w2b)},
        1.5 * np.kron(w1.astype(np.float64), w2a.astype(np.float64) @ w2b),
    )

    rows = f32(2, 6)
    series = ["1", "2", "2", "1"]
    for id, fields, row, map_ in [
        ("dense-rotation", {"shared": False}, rows, cayley),
        ("dense-rotation-shared", {"shared": True}, rows[:1], cayley),
        ("dense-rotation-series", {"shared": False, "series": series}, rows, lambda q: sum(float(s) * np.linalg.matrix_power(q, i) for i, s in enumerate(series))),
        ("dense-rotation-clipped", {"shared": False, "maxNorm": "0.25"}, rows, lambda q: cayley(q * min(1, 0.25 / np.linalg.norm(q)))),
    ]:
        blocks = [map_(skew(row[i % len(row)].astype(np.float64), 4)) for i in range(2)]
        rotated = w @ block_diagonal(blocks).T
        matrix_case(id, {"form": "rotation", "blockSize": 4, **fields}, {"Q": ("oft.Q", row)}, rotated - w, known=False)

    # Two levels of blocks of 2: level i shuffles stretches of 2 * 2^i elements, pieces of 1, even ones first.
    R, s = f32(2, 4, 2, 2), f32(HIDDEN) + 1
    M = np.eye(HIDDEN)
    for level in range(2):
        stretch = 2 * 2**level
        order = np.concatenate([np.r_[at : at + stretch : 2, at + 1 : at + stretch : 2] for at in range(0, HIDDEN, stretch)])
        P = np.eye(HIDDEN)[order]
        D = block_diagonal([cayley((r - r.T) / 2) for r in R[level].astype(np.float64)])
        M = P @ D @ P.T @ M
    slots = {"R": ("boft.R", R), "s": ("boft.s", s)}
    turned = s.astype(np.float64)[:, None] * (w @ M.T)
    matrix_case("dense-butterfly", {"form": "butterfly", "blockSize": 2, "factors": 2}, slots, turned - w, known=False)

    values, places = f32(5), random.permutation(HIDDEN * HIDDEN)[:5]
    indices = np.stack([places // HIDDEN, places % HIDDEN]).astype(np.int64)
    D = np.zeros((HIDDEN, HIDDEN))
    D[indices[0], indices[1]] = values
    slots = {"values": ("fourier.values", values), "indices": ("fourier.indices", indices)}
    matrix_case("dense-spectrum", {"form": "spectrum", "frequencies": 5, "scale": "15"}, slots, 15 * np.fft.ifft2(D).real)


ACTIVATIONS = {
    "relu": lambda v: np.maximum(v, 0),
    "silu": lambda v: v / (1 + np.exp(-v)),
    "gelu": lambda v: v / 2 * (1 + np.vectorize(__import__("math").erf)(v / np.sqrt(2))),
    "gelu_new": lambda v: v / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (v + 0.044715 * v**3))),
    "tanh": np.tanh,
    "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
    "leaky_relu": lambda v: np.where(v < 0, 0.01 * v, v),
    "linear": lambda v: v,
}


def layer_norm(v: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    centred = v - v.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) * weight + bias


def bottleneck(id: str, activation: str = "relu", scaling: str = "1", own_norms=(), gated=False, ln: bool = False, **fields) -> None:
    """h: output of the sub-layer, x: the block's residual stream; rows are the tokens of one call."""
    shape = {"down.w": (3, HIDDEN), "down.b": (3,), "up.w": (HIDDEN, 3), "up.b": (HIDDEN,)}
    slots = {"downW": "down.w", "downB": "down.b", "upW": "up.w", "upB": "up.b"}
    for norm in own_norms:
        slots |= {f"{norm}W": f"{'ln_before' if norm == 'lnBefore' else 'ln_after'}.w", f"{norm}B": f"{'ln_before' if norm == 'lnBefore' else 'ln_after'}.b"}
        shape |= {slots[f"{norm}W"]: (HIDDEN,), slots[f"{norm}B"]: (HIDDEN,)}
    if gated:
        slots |= {"gateW": "gate.w", "gateB": "gate.b"}
        shape |= {"gate.w": (1, HIDDEN), "gate.b": (1,)}
    if scaling in ("learned", "channel"):
        slots["scaling"] = "scale"
        shape["scale"] = (HIDDEN,) if scaling == "channel" else (1,)
    held = {slot: (f"bn.ffn.{name}", f32(*shape[name])) for slot, name in slots.items()}
    names, tensors = named(ROOT, held)
    t = {slot: tensor.astype(np.float64) for slot, (_, tensor) in held.items()}
    op = {
        "op": "bottleneck",
        "site": ROOT,
        "placement": "ffn",
        "hidden": HIDDEN,
        "reduced": 3,
        "activation": activation,
        "originalLnBefore": False,
        "originalLnAfter": True,
        "residual": "before_ln",
        "adapterResidualBeforeLn": False,
        "scaling": scaling,
        **fields,
        "slots": names,
    }
    h, x = wide(f32(3, HIDDEN), f32(3, HIDDEN))
    weight, bias = wide(f32(HIDDEN) + 1, f32(HIDDEN))
    LN = (lambda v: layer_norm(v, weight, bias)) if ln else (lambda v: v)
    n = (lambda v: layer_norm(v, t["lnBeforeW"], t["lnBeforeB"])) if "lnBefore" in own_norms else (lambda v: v)
    N = (lambda v: layer_norm(v, t["lnAfterW"], t["lnAfterB"])) if "lnAfter" in own_norms else (lambda v: v)
    parallel = op["placement"].startswith("parallel")
    z = x if parallel else LN(h + x) if op["originalLnBefore"] else h
    r = {"before_ln": h, "after_ln": z, "post_add": h + x}[op["residual"]]
    factor = t["scaling"] if "scaling" in t else float(scaling)
    u = factor * (ACTIVATIONS[activation](n(z) @ t["downW"].T + t["downB"]) @ t["upW"].T + t["upB"])
    if gated:
        u = u * (1 / (1 + np.exp(-(z @ t["gateW"].T + t["gateB"])))).mean()
    out = N(u) + h if parallel else N(u + r) if op["adapterResidualBeforeLn"] else N(u) + r
    y = LN(out + x) if op["originalLnAfter"] else out
    where = stored(id, *adapter([op], tensors))
    given = {"input": "block", "x": rounded(x), "h": rounded(h)}
    if ln:
        given["ln"] = {"weight": rounded(weight)[0], "bias": rounded(bias)[0]}
    case(f"operation/{id}", "evaluate", {"y": rounded(y)}, **where, site=ROOT, **given)
    case(f"verify/{id}", "verify", {"verified": True}, **where)


def bottlenecks() -> None:
    for activation in ACTIVATIONS:
        bottleneck(f"bottleneck-{activation}", activation=activation)
    bottleneck("bottleneck-ln-first", originalLnBefore=True, residual="after_ln")
    bottleneck("bottleneck-ln-first-residual-before", originalLnBefore=True)
    bottleneck("bottleneck-no-ln-after", originalLnAfter=False, scaling="0.5")
    bottleneck("bottleneck-own-norms", own_norms=("lnBefore", "lnAfter"))
    bottleneck("bottleneck-residual-in-norm", own_norms=("lnAfter",), adapterResidualBeforeLn=True)
    bottleneck("bottleneck-learned", scaling="learned")
    bottleneck("bottleneck-channel", scaling="channel")
    bottleneck("bottleneck-gated", gated=True)
    bottleneck("bottleneck-parallel", placement="parallel_ffn", scaling="4", own_norms=("lnBefore",))
    bottleneck("bottleneck-block-ln", ln=True, originalLnBefore=True)
    bottleneck("bottleneck-block-ln-post-add", ln=True, originalLnBefore=True, residual="post_add")
    bottleneck("bottleneck-block-ln-parallel", ln=True, placement="parallel_ffn")


def virtual_tokens() -> None:
    k, v = f32(2, 3, 2), f32(2, 3, 2)
    site = f"{ROOT}.self_attn"
    names, tensors = named(site, {"k": ("prefix.k", k), "v": ("prefix.v", v)})
    op = {"op": "prefix", "site": site, "kvHeads": 2, "headDim": 2, "virtualTokens": 3, "slots": names}
    where = stored("prefix", *adapter([op], tensors))
    # One query head a key head, no rotary embedding: what attention over the prefix alone answers.
    q = f32(2, 2)
    weights = np.einsum("hd,htd->ht", *wide(q, k)) / np.sqrt(2)
    weights = np.exp(weights) / np.exp(weights).sum(axis=1, keepdims=True)
    y = np.einsum("ht,htd->hd", weights, v)
    case("operation/prefix", "evaluate", {"y": rounded(y)}, **where, site=site, x=rounded(q), input="queries")
    case("verify/prefix", "verify", {"verified": True}, **where)
    E = f32(2, HIDDEN)
    names, tensors = named(EMBEDDING, {"E": ("prompt.E", E)})
    op = {"op": "prompt", "site": EMBEDDING, "virtualTokens": 2, "hidden": HIDDEN, "slots": names}
    ids = np.array([[7, 1]])
    y = np.concatenate([E, BASE[f"{EMBEDDING}.weight"][ids[0]]])
    where = stored("prompt", *adapter([op], tensors))
    case("operation/prompt", "evaluate", {"y": rounded(y)}, **where, site=EMBEDDING, x=rounded(ids), input="tokens")
    case("verify/prompt", "verify", {"verified": True}, **where)


# ---------------------------------------------------------------- manifests and proofs that are refused

def sample() -> tuple[dict, dict[str, np.ndarray]]:
    tensors = {f"{Q}::lora.A": f32(2, HIDDEN), f"{Q}::lora.B": f32(HIDDEN, 2)}
    names = {"A": f"{Q}::lora.A", "B": f"{Q}::lora.B"}
    op = {"op": "low_rank", "site": Q, "in": HIDDEN, "out": HIDDEN, "rank": 2, "scale": "0.5", "slots": names}
    return op, tensors


def manifests() -> None:
    op, tensors = sample()
    manifest, _ = adapter([op], tensors)
    text = rfc8785.dumps(manifest)
    case("manifest/canonical", "manifest", {"digest": sha256(text)}, manifest=text.decode())
    kept = rfc8785.dumps({**manifest, "hint": {"any": [1]}})
    case("manifest/keeps-an-unknown-field", "manifest", {"digest": sha256(kept)}, manifest=kept.decode())
    origin = {
        "format": "peft",
        "toolVersion": "0.21.2",
        "config": b64(b"{}"),
        "keyMap": [{"key": "q.lora_A.weight", "tensor": f"{Q}::lora.A", "transform": "identity"}],
        "metadata": {"format": "pt"},
        "header": b64(b"12345678{}"),
        "literals": [{"key": "q.alpha", "dtype": "F32", "shape": [], "data": b64(bytes(4))}],
        "files": [{"path": "head_config.json", "data": b64(b"{}")}],
    }
    full = rfc8785.dumps({**manifest, "origin": origin, "description": "", "license": "MIT", "keywords": ["a"], "training": {"steps": 1}})
    case("manifest/every-field", "manifest", {"digest": sha256(full)}, manifest=full.decode())

    def edited(id: str, path: list, value, code: str = "ERR_MANIFEST_INVALID", of=None) -> None:
        copy_ = copy.deepcopy(of or {**manifest, "origin": origin})
        at = copy_
        for part in path[:-1]:
            at = at[part]
        if value is KeyError:
            del at[path[-1]]
        else:
            at[path[-1]] = value
        case(f"manifest/refuses-{id}", "manifest", refused(code), manifest=rfc8785.dumps(copy_).decode())

    case("manifest/refuses-other-json", "manifest", refused("ERR_MANIFEST_INVALID"), manifest=json.dumps(manifest))
    edited("another-schema", ["schema"], "graft.adapter/2")
    edited("upper-case-name", ["name"], "@kit/Adapter")
    edited("version-with-v", ["version"], "v1.0.0")
    edited("no-operations", ["operations"], [])
    edited("unknown-operation", ["operations", 0, "op"], "lora")
    edited("unknown-field-of-an-operation", ["operations", 0, "alpha"], "16")
    edited("unknown-slot", ["operations", 0, "slots", "C"], f"{Q}::lora.A")
    edited("missing-slot", ["operations", 0, "slots", "B"], KeyError)
    edited("number-as-scale", ["operations", 0, "scale"], 1)
    edited("scale-with-trailing-zero", ["operations", 0, "scale"], "0.50")
    edited("scale-with-exponent", ["operations", 0, "scale"], "5e-1")
    edited("negative-zero-scale", ["operations", 0, "scale"], "-0")
    edited("rank-zero", ["operations", 0, "rank"], 0)
    edited("site-with-wildcard", ["operations", 0, "site"], "model.*.q_proj")
    edited("same-site-twice", ["operations"], [op, op])
    edited("slot-without-tensor", ["operations", 0, "slots", "A"], "nothing")
    edited("shape-unlike-operation", ["operations", 0, "rank"], 3, "ERR_TENSOR_SHAPE")
    spare = {"name": "spare", "dtype": "F32", "shape": [1], "sha256": sha256(bytes(4))}
    edited("unused-tensor", ["tensors"], [*manifest["tensors"], spare], "ERR_TENSOR_UNMATCHED")
    edited("unknown-dtype", ["tensors", 0, "dtype"], "F128")
    edited("short-digest", ["base", "structure"], "sha256:00")
    edited("path-that-climbs", ["files", 0, "path"], "a/../../b")
    edited("absolute-path", ["base", "files", 0, "path"], "/etc/passwd")
    edited("no-canonical-file", ["files", 0, "role"], "card")
    edited("crit-of-an-absent-field", ["crit"], ["keywords"])
    edited("origin-not-base64", ["origin", "config"], "e30")
    edited("origin-of-another-tensor", ["origin", "keyMap", 0, "tensor"], "nothing")
    edited("literal-of-another-size", ["origin", "literals", 0, "shape"], [2])
    critical = {**manifest, "hint": 1, "crit": ["hint"]}
    case("manifest/refuses-a-critical-unknown-field", "manifest", refused("ERR_CRITICAL_UNKNOWN"), manifest=rfc8785.dumps(critical).decode())


def proofs() -> None:
    op, tensors = sample()

    def refuses(id: str, code: str, manifest: dict, weights: bytes) -> None:
        case(f"verify/refuses-{id}", "verify", refused(code), **stored(f"refused-{id}", manifest, weights))

    manifest, weights = adapter([op], tensors)
    changed = bytearray(weights)
    changed[-1] ^= 1
    refuses("changed-bytes", "ERR_DIGEST_MISMATCH", manifest, bytes(changed))
    refuses("another-size", "ERR_DIGEST_MISMATCH", manifest, weights + b"\0")
    rows = copy.deepcopy(manifest)
    rows["tensors"][0]["sha256"] = sha256(b"other")
    refuses("a-tensor-of-another-digest", "ERR_DIGEST_MISMATCH", rows, weights)
    A, B = (f"{Q}::lora.{slot}" for slot in "AB")
    for id, code, change in [
        ("nan", "ERR_WEIGHTS_NON_FINITE", {A: np.full((2, HIDDEN), np.nan, np.float32)}),
        ("beyond-f32", "ERR_WEIGHTS_NON_FINITE", {A: np.full((2, HIDDEN), 1e300)}),
        ("zero-effect", "ERR_ZERO_EFFECT", {B: np.zeros((HIDDEN, 2), np.float32)}),
        ("integers-as-weights", "ERR_SAFETENSORS_INVALID", {A: np.ones((2, HIDDEN), np.int64)}),
    ]:
        refuses(id, code, *adapter([op], {**tensors, **change}))
    crossed = {A: tensors[A] * [[1], [0]], B: tensors[B] * [0, 1]}
    refuses("zero-effect-crosswise", "ERR_ZERO_EFFECT", *adapter([op], {n: t.astype(np.float32) for n, t in crossed.items()}))
    lost, _ = adapter([op], tensors)
    _, only = adapter([op], {A: tensors[A]})
    lost["files"][0] |= {"size": len(only), "sha256": sha256(only)}
    refuses("a-missing-tensor", "ERR_TENSOR_MISSING", lost, only)
    more, _ = adapter([op], tensors)
    _, extra = adapter([op], {**tensors, "spare": f32(1)})
    more["files"][0] |= {"size": len(extra), "sha256": sha256(extra)}
    refuses("a-tensor-too-many", "ERR_TENSOR_UNMATCHED", more, extra)
    elsewhere = {**op, "site": "model.layers.7.self_attn.q_proj"}
    refuses("a-site-that-the-base-lacks", "ERR_TENSOR_UNMATCHED", *adapter([elsewhere], tensors))
    refuses("a-site-of-another-size", "ERR_TENSOR_SHAPE", *adapter([{**op, "site": K}], tensors))


# ---------------------------------------------------------------- signatures

def signatures() -> None:
    ed = ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"kit ed25519").digest())
    es = ec.derive_private_key(int.from_bytes(hashlib.sha256(b"kit p-256").digest(), "big"), ec.SECP256R1())
    raw = ed.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    point = es.public_key().public_numbers()
    jwks = {
        "Ed25519": {"crv": "Ed25519", "kty": "OKP", "x": b64url(raw)},
        "ES256": {"crv": "P-256", "kty": "EC", "x": b64url(point.x.to_bytes(32, "big")), "y": b64url(point.y.to_bytes(32, "big"))},
    }
    kids = {alg: b64url(hashlib.sha256(rfc8785.dumps(jwk)).digest()) for alg, jwk in jwks.items()}
    for alg, jwk in jwks.items():
        case(f"signature/thumbprint-{alg}", "thumbprint", {"kid": kids[alg]}, jwk=jwk)

    def raw_signature(alg: str, data: bytes, der: bool = False) -> bytes:
        if alg == "Ed25519":
            return ed.sign(data)
        signed = es.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        r, s = decode_dss_signature(signed)
        return signed if der else r.to_bytes(32, "big") + s.to_bytes(32, "big")

    payload, typ = rfc8785.dumps({"a": 1}), "graft-manifest+jws"
    encoded = b64url(payload)

    def signed(alg: str, header: dict | bytes | None = None, body: str = encoded) -> dict:
        text = header if isinstance(header, bytes) else rfc8785.dumps({"alg": alg, "kid": kids[alg], "typ": typ, **(header or {})})
        protected = b64url(text)
        return {"protected": protected, "signature": b64url(raw_signature(alg, f"{protected}.{body}".encode()))}

    def envelope(id: str, answer: dict, signatures: list, body: str = encoded, keys=("Ed25519", "ES256"), **more) -> None:
        given = {"envelope": {"payload": body, "signatures": signatures, **more}, "typ": typ, "keys": [jwks[k] for k in keys]}
        case(f"signature/{id}", "jws", answer, **given)

    one, two = signed("Ed25519"), signed("ES256")
    good = lambda *algs: {"payload": b64(payload), "kids": [kids[a] for a in algs]}
    bad, unknown = refused("ERR_SIGNATURE_INVALID"), refused("ERR_KEY_UNKNOWN")
    envelope("ed25519", good("Ed25519"), [one])
    envelope("es256", good("ES256"), [two])
    envelope("eddsa-is-ed25519", good("Ed25519"), [signed("Ed25519", {"alg": "EdDSA"})])
    envelope("two", good("Ed25519", "ES256"), [one, two])
    envelope("refuses-one-bad-of-two", bad, [one, {**two, "signature": one["signature"]}])
    envelope("refuses-an-unknown-signer", unknown, [one, two], keys=("Ed25519",))
    envelope("refuses-a-signer-twice", bad, [one, one])
    envelope("refuses-none", bad, [])
    envelope("refuses-nine", bad, [one] * 9)
    envelope("refuses-an-unprotected-header", bad, [{**one, "header": {"alg": "Ed25519"}}])
    envelope("refuses-another-payload", bad, [one], body=b64url(b"{}"))
    envelope("refuses-padded-base64url", bad, [signed("Ed25519", body=b64url(b"{}") + "=")], body=b64url(b"{}") + "=")
    envelope("refuses-another-member", bad, [one], extra=1)
    for id, header in {
        "alg-none": {"alg": "none"},
        "alg-of-another-key": {"alg": "ES256"},
        "alg-hs256": {"alg": "HS256"},
        "another-typ": {"typ": "graft-attestation+jws"},
        "jwk": {"jwk": jwks["Ed25519"]},
        "jku": {"jku": "https://example.com"},
        "crit-b64": {"crit": ["b64"], "b64": False},
    }.items():
        envelope(f"refuses-{id}", bad, [signed("Ed25519", header)])
    envelope("refuses-no-kid", bad, [signed("Ed25519", rfc8785.dumps({"alg": "Ed25519", "typ": typ}))])
    twice = f'{{"alg":"Ed25519","kid":"{kids["Ed25519"]}","typ":"x","typ":"{typ}"}}'.encode()
    envelope("refuses-a-name-twice", bad, [signed("Ed25519", twice)])

    type_ = "application/vnd.graft.adapter.manifest.v1+json"
    pae = b"DSSEv1 %d %b %d %b" % (len(type_), type_.encode(), len(payload), payload)
    for alg in jwks:
        sig = {"keyid": kids[alg], "sig": b64(raw_signature(alg, pae, der=True))}
        given = {"envelope": {"payload": b64(payload), "payloadType": type_, "signatures": [sig]}, "payloadType": type_, "keys": [jwks[alg]]}
        case(f"dsse/{alg}", "dsse", good(alg), **given)
        plain = {**sig, "sig": b64(raw_signature(alg, payload, der=True))}
        case(f"dsse/refuses-{alg}-over-the-payload-alone", "dsse", bad, **{**given, "envelope": {**given["envelope"], "signatures": [plain]}})
        case(f"dsse/refuses-{alg}-of-another-type", "dsse", bad, **{**given, "payloadType": "text/plain"})
    raw64 = {"keyid": kids["ES256"], "sig": b64(raw_signature("ES256", pae))}
    given = {"envelope": {"payload": b64(payload), "payloadType": type_, "signatures": [raw64]}, "payloadType": type_, "keys": [jwks["ES256"]]}
    case("dsse/refuses-ES256-that-is-not-der", "dsse", bad, **given)


if __name__ == "__main__":
    shutil.rmtree(FIXTURES, ignore_errors=True)
    canonical_json()
    references()
    safetensors_files()
    IDENTITY = base_identity()
    low_rank()
    stacks_and_kernels()
    other_linear()
    dense()
    bottlenecks()
    virtual_tokens()
    manifests()
    proofs()
    signatures()
    dump = lambda value: (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()
    file("cases.json", dump(cases))
    file("answers.json", dump(answers))
    print(f"{len(cases)} cases, {sum(p.stat().st_size for p in FIXTURES.rglob('*') if p.is_file())} bytes")
