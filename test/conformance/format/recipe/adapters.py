"""Manifests and files of adapters with one operation."""

import numpy as np
import rfc8785
from safetensors.numpy import save

from .base import BASE, IDENTITY
from .fingerprint import fingerprint
from .kit import case, file, sha256

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
    if operation["op"] != "dense":
        probes = [float(f"{v:.6g}") for v in fingerprint([operation], tensors)]
        case(f"fingerprint/{id}", "fingerprint", {"probes": probes}, **where)


def named(site: str, slots: dict[str, tuple[str, np.ndarray]]) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    names = {slot: f"{site}::{name}" for slot, (name, _) in slots.items()}
    return names, {names[slot]: tensor for slot, (_, tensor) in slots.items()}


def linear_of(site: str) -> tuple[np.ndarray, np.ndarray]:
    w = BASE[f"{site}.weight"].astype(np.float64)
    return w, BASE.get(f"{site}.bias", np.zeros(len(w))).astype(np.float64)
