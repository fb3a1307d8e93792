"""What bottlenecks and virtual tokens compute."""

import numpy as np

from .adapters import adapter, named, rounded, stored
from .base import BASE, EMBEDDING, HIDDEN, ROOT
from .kit import case, f32, wide

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
    where = stored("prefix-first-position", *adapter([{**op, "firstPosition": 0}], tensors))
    case("verify/prefix-first-position", "verify", {"verified": True}, **where)
    E = f32(2, HIDDEN)
    names, tensors = named(EMBEDDING, {"E": ("prompt.E", E)})
    op = {"op": "prompt", "site": EMBEDDING, "virtualTokens": 2, "hidden": HIDDEN, "slots": names}
    ids = np.array([[7, 1]])
    y = np.concatenate([E, BASE[f"{EMBEDDING}.weight"][ids[0]]])
    where = stored("prompt", *adapter([op], tensors))
    case("operation/prompt", "evaluate", {"y": rounded(y)}, **where, site=EMBEDDING, x=rounded(ids), input="tokens")
    case("verify/prompt", "verify", {"verified": True}, **where)
