"""
Adapters as other tools save them, written here by hand from what is known of those formats; the saves of the tools
themselves are under test/sdk/convert. An importer must answer what the tool's maths gives, and give the files back.
"""

import json
import math

import numpy as np
from safetensors.numpy import save

from .adapters import linear_of, rounded
from .base import BASE, DOWN, FFN, HEADS, HIDDEN, K, KV_HEADS, Q
from .gguf import gguf
from .kit import case, f32, file, sha256
from .linear import block_diagonal, cayley, skew
from .onnx_adapter import onnx_adapter

PEFT = {"base_model_name_or_path": "kit", "inference_mode": True, "task_type": "CAUSAL_LM"}


def imported(id: str, format: str, files: dict[str, bytes], y: dict) -> None:
    """y: by site, a function of rows of its input in f64."""
    x = {site: f32(2, DIMENSIONS[site]) for site in y}
    case(
        f"import/{id}",
        "import",
        {
            "y": {site: rounded(f(x[site].astype(np.float64))) for site, f in y.items()},
            "files": {path: sha256(data) for path, data in files.items()},
        },
        format=format,
        sources={path: file(f"sources/{id}/{path}", data) for path, data in files.items()},
        base={"name": "kit", "config": "base/config.json", "tokenizer": None, "weights": ["base/model.safetensors"]},
        x={site: rounded(rows) for site, rows in x.items()},
    )


DIMENSIONS = {Q: HIDDEN, K: HIDDEN, DOWN: FFN}


def plus(site: str, dW: np.ndarray):
    w, b = linear_of(site)
    return lambda x: x @ (w + dW).T + b


def peft(id: str, config: dict, tensors: dict[str, np.ndarray], y: dict) -> None:
    text = json.dumps(dict(sorted({**PEFT, **config}.items())), indent=2).encode()
    named = {f"base_model.model.{name}": tensor for name, tensor in tensors.items()}
    weights = save(named, {"format": "pt"})
    imported(f"peft-{id}", "peft", {"adapter_config.json": text, "adapter_model.safetensors": weights}, y)


def peft_saves() -> None:
    A, B, a, b = f32(2, HIDDEN), f32(HIDDEN, 2), f32(1, HIDDEN), f32(4, 1)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "k_proj"]}
    tensors = {f"{Q}.lora_A.weight": A, f"{Q}.lora_B.weight": B, f"{K}.lora_A.weight": a, f"{K}.lora_B.weight": b}
    patterns = {**config, "rank_pattern": {"k_proj": 1}, "alpha_pattern": {"k_proj": 3}}
    dQ, dK = B.astype(np.float64) @ A, b.astype(np.float64) @ a
    peft("lora-patterns", patterns, tensors, {Q: plus(Q, 4 / 2 * dQ), K: plus(K, 3 / 1 * dK)})
    scaled = {Q: plus(Q, 4 / math.sqrt(2) * dQ), K: plus(K, 3 * dK)}
    peft("lora-rslora", {**patterns, "use_rslora": True}, tensors, scaled)

    m = f32(HIDDEN) + 2
    w, bias = linear_of(Q)
    g = m / np.linalg.norm(w + 2 * dQ, axis=1)
    dora = {**config, "target_modules": ["q_proj"], "use_dora": True}
    kept = {k: t for k, t in tensors.items() if k.startswith(Q)}
    peft("dora", dora, {**kept, f"{Q}.lora_magnitude_vector": m}, {Q: lambda x: g * (x @ (w + 2 * dQ).T) + bias})

    lk, ld = f32(4, 1) + 1, f32(1, FFN) + 1
    wk, wd = BASE[f"{K}.weight"].astype(np.float64), BASE[f"{DOWN}.weight"].astype(np.float64)
    ia3 = {"peft_type": "IA3", "target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]}
    both = {K: lambda x: lk[:, 0] * (x @ wk.T), DOWN: lambda x: (x * ld[0]) @ wd.T}
    peft("ia3", ia3, {f"{K}.ia3_l": lk, f"{DOWN}.ia3_l": ld}, both)

    w1a, w1b, w2a, w2b = f32(HIDDEN, 2), f32(2, HIDDEN), f32(HIDDEN, 2), f32(2, HIDDEN)
    slots = {"hada_w1_a": w1a, "hada_w1_b": w1b, "hada_w2_a": w2a, "hada_w2_b": w2b}
    dW = 6 / 2 * (w1a.astype(np.float64) @ w1b) * (w2a.astype(np.float64) @ w2b)
    loha = {"peft_type": "LOHA", "r": 2, "alpha": 6, "target_modules": ["q_proj"]}
    peft("loha", loha, {f"{Q}.{slot}": t for slot, t in slots.items()}, {Q: plus(Q, dW)})

    w1, w2a, w2b = f32(2, 2), f32(4, 1), f32(1, 4)
    dW = 3 * np.kron(w1.astype(np.float64), w2a.astype(np.float64) @ w2b)
    lokr = {"peft_type": "LOKR", "r": 1, "alpha": 3, "target_modules": ["q_proj"]}
    peft("lokr", lokr, {f"{Q}.lokr_w1": w1, f"{Q}.lokr_w2_a": w2a, f"{Q}.lokr_w2_b": w2b}, {Q: plus(Q, dW)})

    rows = f32(2, 6)
    R = block_diagonal([cayley(skew(row.astype(np.float64), 4)) for row in rows])
    oft = {"peft_type": "OFT", "r": 2, "oft_block_size": 4, "target_modules": ["q_proj"], "use_cayley_neumann": False}
    peft("oft", oft, {f"{Q}.oft_R.weight": rows}, {Q: lambda x: (x @ R) @ w.T + bias})


def other_saves() -> None:
    A, B = f32(2, HIDDEN), f32(HIDDEN, 2)
    a, b = f32(2, HIDDEN), f32(4, 2)
    dQ, dK = B.astype(np.float64) @ A, b.astype(np.float64) @ a

    kohya = {}
    for site, down, up, alpha in [(Q, A, B, 1.0), (K, a, b, 4.0)]:
        name = "lora_te_" + site.replace(".", "_")
        kohya |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": np.array(alpha, np.float32)}
    weights = save(kohya, {"ss_network_dim": "2", "ss_network_module": "networks.lora"})
    imported("kohya-lora", "kohya", {"lora.safetensors": weights}, {Q: plus(Q, 1 / 2 * dQ), K: plus(K, 4 / 2 * dK)})

    config = {
        "config": {
            **{"architecture": "lora", "alpha": 4, "r": 2, "attn_matrices": ["q", "k"], "composition_mode": "add"},
            **{"dropout": 0.0, "init_weights": "lora", "intermediate_lora": False, "output_lora": False, "leave_out": []},
            **{"selfattn_lora": True, "use_gating": False},
        },
        **{"hidden_size": HIDDEN, "model_class": "LlamaForCausalLM", "model_name": "kit", "model_type": "llama"},
        **{"name": "kit", "version": "adapters.1.3.0"},
    }
    hub = {}
    for site, down, up in [(Q, A, B), (K, a, b)]:
        hub |= {f"{site}.loras.kit.lora_A": down, f"{site}.loras.kit.lora_B": up}
    files = {"adapter_config.json": json.dumps(config, indent=2).encode(), "adapter.safetensors": save(hub)}
    imported("adapterhub-lora", "adapters", files, {Q: plus(Q, 2 * dQ), K: plus(K, 2 * dK)})

    turn = lambda up, heads: up.reshape(heads, 2, len(up) // heads // 2, -1).swapaxes(1, 2).reshape(up.shape)
    tensors = {
        "blk.0.attn_q.weight.lora_a": A,
        "blk.0.attn_q.weight.lora_b": turn(B, HEADS),
        "blk.0.attn_k.weight.lora_a": a,
        "blk.0.attn_k.weight.lora_b": turn(b, KV_HEADS),
    }
    metadata = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 6.0}
    imported("gguf-lora", "gguf", {"adapter.gguf": gguf(metadata, tensors)}, {Q: plus(Q, 3 * dQ), K: plus(K, 3 * dK)})

    config = {
        **{"fine_tune_type": "lora", "model": "kit", "num_layers": 1},
        "lora_parameters": {"rank": 2, "scale": 1.5, "dropout": 0.0, "keys": ["self_attn.q_proj", "self_attn.k_proj"]},
    }
    turned = {f"{site}.lora_{part}": t.T.copy() for site, *both in [(Q, A, B), (K, a, b)] for part, t in zip("ab", both)}
    files = {"adapter_config.json": json.dumps(config, indent=4).encode(), "adapters.safetensors": save(turned)}
    imported("mlx-lora", "mlx", files, {Q: plus(Q, 1.5 * dQ), K: plus(K, 1.5 * dK)})

    inputs = {f"{site}.lora_{part}.weight": t.T for site, *both in [(Q, A, B), (K, a, b)] for part, t in zip("AB", both)}
    imported("onnx-lora", "onnx", {"adapter.onnx_adapter": onnx_adapter(inputs)}, {Q: plus(Q, dQ), K: plus(K, dK)})
