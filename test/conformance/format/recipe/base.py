"""The base that the adapters of the kit are for: one block of a Llama, with a convolution and stacked experts besides."""

import rfc8785
from safetensors.numpy import save

from .kit import case, f32, file, refused, sha256

HIDDEN, FFN, VOCAB, HEADS, KV_HEADS = 8, 12, 16, 2, 1
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
CONFIG = rfc8785.dumps(
    {
        "architectures": ["LlamaForCausalLM"],
        "head_dim": HIDDEN // HEADS,
        "hidden_size": HIDDEN,
        "intermediate_size": FFN,
        "model_type": "llama",
        "num_attention_heads": HEADS,
        "num_hidden_layers": 1,
        "num_key_value_heads": KV_HEADS,
        "vocab_size": VOCAB,
    }
)
TOKENIZER = b'{"version":"1.0"}'


def lines(dtypes: bool) -> str:
    rows = [f"{n}\t" + ("F32\t" if dtypes else "") + ",".join(map(str, t.shape)) + "\n" for n, t in BASE.items()]
    return sha256("".join(sorted(rows)).encode())


WEIGHTS = save(BASE, {"format": "pt"})
IDENTITY = {
    "name": "kit",
    "architecture": "LlamaForCausalLM",
    "modelType": "llama",
    "files": [{"path": "model.safetensors", "size": len(WEIGHTS), "sha256": sha256(WEIGHTS)}],
    "structure": lines(False),
    "structureWithDtype": lines(True),
    "configDigest": sha256(CONFIG),
    "tokenizerDigest": sha256(TOKENIZER),
    "quantization": None,
}


def base_identity() -> None:
    file("base/model.safetensors", WEIGHTS)
    file("base/config.json", CONFIG)
    file("base/tokenizer.json", TOKENIZER)
    digest = sha256(rfc8785.dumps(IDENTITY))
    given = {"name": "kit", "config": "base/config.json", "tokenizer": "base/tokenizer.json"}
    case("base/one-file", "base", {"identity": IDENTITY, "digest": digest}, **given, weights=["base/model.safetensors"])
    names = sorted(BASE)
    halves = [save({n: BASE[n] for n in part}) for part in (names[:5], names[5:])]
    paths = [file(f"base/model-0000{i}-of-00002.safetensors", half) for i, half in enumerate(halves, 1)]
    sharded = {
        **IDENTITY,
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
