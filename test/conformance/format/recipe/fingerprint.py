"""The fingerprint of an adapter, SPEC.md section "Proofs"."""

import numpy as np

MASK = 0xFFFFFFFF


def seed_of(text: str) -> int:
    """FNV-1a over UTF-16 units."""
    value = 0x811C9DC5
    data = text.encode("utf-16-le")
    for at in range(0, len(data), 2):
        value = ((value ^ int.from_bytes(data[at : at + 2], "little")) * 0x01000193) & MASK
    return value


def sign(seed: int, index: int) -> int:
    z = (seed + (index + 1) * 0x6D2B79F5) & MASK
    z = ((z ^ (z >> 15)) * (z | 1)) & MASK
    z ^= (z + (((z ^ (z >> 7)) * (z | 61)) & MASK)) & MASK
    return 1 if (z ^ (z >> 14)) & 1 else -1


def signs(seed: int, count: int) -> np.ndarray:
    return np.array([sign(seed, i) for i in range(count)], np.float64)


def probe(op: dict, tensors: dict[str, np.ndarray], n: int) -> float:
    site, slots = op["site"], {slot: tensors[name].astype(np.float64) for slot, name in op["slots"].items()}
    at = lambda part, count: signs(seed_of(f"{n} {op['op']} {site} {part}"), count)
    if op["op"] not in ("low_rank", "magnitude"):
        return sum(float(at(slot, t.size) @ t.ravel()) for slot, t in slots.items())
    stacks, rank = op.get("experts", 1), op["rank"]
    A, B = slots["A"].reshape(stacks, rank, -1), slots["B"].reshape(stacks, -1, rank)
    right = A @ signs(seed_of(f"{n} {site} v"), A.shape[2])
    rows = signs(seed_of(f"{n} {site} u"), stacks * B.shape[1]).reshape(stacks, -1)
    left = np.einsum("so,sor->sr", rows * slots.get("D", np.ones(B.shape[1])), B)
    total = float(op["scale"]) * float((left * slots.get("E", np.ones(rank)) * right).sum())
    if "Bbias" in slots:
        total += float(op["scale"]) * float(at("Bbias", len(slots["Bbias"])) @ slots["Bbias"])
    if "m" in slots:
        total += float(at("m", len(slots["m"])) @ slots["m"])
    return total


def fingerprint(operations: list[dict], tensors: dict[str, np.ndarray]) -> list[float]:
    return [sum(probe(op, tensors, n) for op in operations) for n in range(4)]
