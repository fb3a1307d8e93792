"""Cases, answers and files of the kit, and one stream of random numbers for all of them."""

import base64
import hashlib
import pathlib

import numpy as np

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"
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
