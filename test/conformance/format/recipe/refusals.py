"""Manifests and adapters that are refused, each for one reason."""

import copy
import json

import numpy as np
import rfc8785

from .adapters import adapter, stored
from .base import HIDDEN, K, Q
from .kit import b64, case, f32, refused, sha256

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
