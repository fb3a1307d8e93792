"""What operations on linears and embeddings compute."""

import numpy as np

from .adapters import adapter, evaluated, linear_of, named, rounded, stored
from .base import BASE, CONV, EMBEDDING, EXPERTS, HIDDEN, Q, VOCAB
from .kit import case, f32, random, wide

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


def several() -> None:
    """A replaced bias, factors of input and output and a low rank update, at one linear."""
    w, _ = linear_of(Q)
    x = f32(3, HIDDEN)
    bias, into, out, A, B = f32(HIDDEN), f32(HIDDEN) + 1, f32(HIDDEN) + 1, f32(2, HIDDEN), f32(HIDDEN, 2)
    tensors = {f"{Q}::{name}": t for name, t in [("full.b", bias), ("in.l", into), ("out.l", out), ("lora.A", A), ("lora.B", B)]}
    linear = {"site": Q, "in": HIDDEN, "out": HIDDEN}
    operations = [
        {"op": "replace", "site": Q, "param": "bias", "shape": [HIDDEN], "slots": {"value": f"{Q}::full.b"}},
        {"op": "scale", "site": Q, "side": "input", "size": HIDDEN, "slots": {"l": f"{Q}::in.l"}},
        {"op": "scale", "site": Q, "side": "output", "size": HIDDEN, "slots": {"l": f"{Q}::out.l"}},
        {"op": "low_rank", **linear, "rank": 2, "scale": "3", "slots": {"A": f"{Q}::lora.A", "B": f"{Q}::lora.B"}},
    ]
    a, b, i, o = wide(A, B, into, out)
    y = o * ((x * i) @ w.T + bias) + 3 * (x @ a.T) @ b.T
    where = stored("several", *adapter(operations, tensors))
    case("operation/several-at-one-linear", "evaluate", {"y": rounded(y)}, **where, site=Q, x=rounded(x))


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
