"""Small adapters of PEFT's dense types (LoHa, LoKr, OFT, BOFT, FourierFT) on a seeded two-layer Llama, with PEFT's own logits.

python make.py             writes fixtures/: base/, <adapter>/ as PEFT saves them, goldens.safetensors (`<adapter>.<prompt>` [tokens, vocab]), goldens.json
python make.py check DIR   loads every DIR/<adapter>, exported by export.ts, with the real PEFT and compares its logits with the goldens
OLD_PEFT=DIR               a folder with peft 0.17.1 (pip install --no-deps --target DIR peft==0.17.1): makes the old-* adapters too

BOFT of several factors needs PEFT's CUDA kernel, which only writes blocks on a diagonal: `diagonal` does that here, the rest is PEFT's.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

if os.environ.get("PYTHONHASHSEED") != "0":  # PEFT saves sets of names in hash order, and asks the hub for the base
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0", "HF_HUB_OFFLINE": "1"})

import peft
import torch
from peft import BOFTConfig, FourierFTConfig, LoHaConfig, LoKrConfig, OFTConfig
from peft.tuners.boft import layer as boft
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

torch.set_num_threads(1)
HERE = Path(__file__).parent / "fixtures"
PROMPTS = [[5, 3, 50, 60, 7, 7, 19, 0, 42], [33, 1, 2]]


class diagonal:
    """Stands for the extension: [N, D, H, H] to [N, D H, D H]."""

    @staticmethod
    def forward(blocks):
        return [torch.stack([torch.block_diag(*level) for level in blocks])]


def new_base() -> LlamaForCausalLM:
    torch.manual_seed(33)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=64, initializer_range=0.3, attn_implementation="eager", tie_word_embeddings=False, attention_bias=True, mlp_bias=True,
    )).float().eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                weight.add_(0.2 * torch.randn_like(weight))
    return model


@torch.no_grad()
def answers(model) -> list[torch.Tensor]:
    return [model(input_ids=torch.tensor([prompt])).logits[0].float().contiguous() for prompt in PROMPTS]


SQUARE = ["q_proj", "o_proj", "gate_proj"]
ALL = ["q_proj", "v_proj", "down_proj"]
clm = {"task_type": "CAUSAL_LM"}
boft_R = [("boft_R", 0.3), ("boft_s", 0.2)]
# name: config, then (part of a parameter's name, std) of what training moves
ADAPTERS = {
    "loha": (LoHaConfig(**clm, r=3, alpha=5, target_modules=SQUARE, rank_dropout=0.1, module_dropout=0.1), [("hada_", 0.4)]),
    "loha-patterns": (LoHaConfig(
        **clm, r=5, alpha=4, target_modules=ALL, rank_pattern={"down_proj": 6, "model.layers.1.self_attn.q_proj": 2}, alpha_pattern={"v_proj": 9},
        use_effective_conv2d=True, init_weights=False,
    ), [("hada_", 0.35)]),
    "lokr": (LoKrConfig(**clm, r=2, alpha=3, target_modules=SQUARE, rank_dropout_scale=True), [("lokr_", 0.4)]),
    "lokr-both": (LoKrConfig(**clm, r=1, alpha=3, target_modules=ALL, decompose_both=True, init_weights="lycoris"), [("lokr_", 0.6)]),
    "lokr-whole": (LoKrConfig(**clm, r=8, alpha=8, target_modules=ALL, decompose_factor=2, rank_pattern={"v_proj": 3}), [("lokr_", 0.3)]),
    "oft": (OFTConfig(**clm, oft_block_size=8, target_modules=ALL), [("oft_R", 0.12)]),
    "oft-terms-3": (OFTConfig(**clm, oft_block_size=8, target_modules=ALL, num_cayley_neumann_terms=3), [("oft_R", 0.12)]),
    "oft-terms-2": (OFTConfig(**clm, r=4, oft_block_size=0, target_modules=ALL, num_cayley_neumann_terms=2, module_dropout=0.1), [("oft_R", 0.12)]),
    "oft-exact": (OFTConfig(**clm, oft_block_size=16, target_modules=ALL, use_cayley_neumann=False, bias="oft_only"), [("oft_R", 0.3), ("proj.base_layer.bias", 0.4)]),
    "oft-constrained": (OFTConfig(**clm, oft_block_size=8, target_modules=ALL, use_cayley_neumann=False, coft=True, eps=1.5), [("oft_R", 0.2)]),
    "oft-shared": (OFTConfig(**clm, oft_block_size=4, target_modules=ALL, block_share=True, coft=True, eps=0.9), [("oft_R", 0.4)]),
    "boft": (BOFTConfig(**clm, boft_block_size=4, target_modules=ALL, boft_dropout=0.1), boft_R),
    "boft-butterfly": (BOFTConfig(**clm, boft_block_size=4, boft_n_butterfly_factor=3, target_modules=["q_proj", "v_proj"], bias="boft_only"), [*boft_R, ("proj.base_layer.bias", 0.4)]),
    "boft-blocks": (BOFTConfig(**clm, boft_block_size=0, boft_block_num=4, boft_n_butterfly_factor=2, target_modules=ALL, modules_to_save=["norm"]), [*boft_R, ("modules_to_save", 0.3)]),
    "fourierft": (FourierFTConfig(**clm, n_frequency=40, scaling=90.0, target_modules=ALL, n_frequency_pattern={"v_proj": 25}), [("fourierft_spectrum", 1.0)]),
}
# The series before PEFT 0.18 ended with 2 Q^(n-1), and its configs name no version.
OLD = {"old-oft": (OFTConfig(**clm, oft_block_size=8, target_modules=ALL, num_cayley_neumann_terms=4), [("oft_R", 0.12)])}


def disturb(model, moves) -> None:
    with torch.no_grad():
        for part, std in moves:
            found = [weight for name, weight in model.named_parameters() if part in name]
            assert found, part
            for weight in found:
                weight.add_(std * torch.randn_like(weight))


def add_indices(folder: Path, model) -> None:
    """What the importer asks for: torch.randperm's places beside the values."""
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors.update({name + ".fourierft_indices": m.indices["default"] for name, m in model.named_modules() if hasattr(m, "fourierft_spectrum")})
    save_file(tensors, path, metadata={"format": "pt"})


def make(name: str, config, moves, goldens: dict, norms: dict | None = None) -> None:
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model = peft.get_peft_model(new_base(), config).eval()
    torch.manual_seed(9)
    disturb(model, moves)
    model.peft_config["default"].base_model_name_or_path = "base"
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)
    if hasattr(config, "n_frequency"):
        add_indices(folder, model)
    loaded = peft.PeftModel.from_pretrained(new_base(), folder).eval()
    for i, logits in enumerate(answers(loaded)):
        goldens[f"{name}.{i}"] = logits
    if norms is not None and (hasattr(config, "alpha") or hasattr(config, "n_frequency")):
        norms[name] = {
            path.removeprefix("base_model.model."): module.get_delta_weight("default").double().norm().item()
            for path, module in loaded.named_modules() if isinstance(module, BaseTunerLayer)
        }
    print(name, peft.__version__, flush=True)


SUM = [("loha", 0.6), ("lokr", -0.5)]


def merged_sum():
    """The base with W + sum of w_i (W_i - W), W_i as PEFT merges adapter i alone."""
    plain = new_base()
    start = {name: value.clone() for name, value in plain.state_dict().items()}
    with torch.no_grad():
        for adapter, weight in SUM:
            own = peft.PeftModel.from_pretrained(new_base(), HERE / adapter).merge_and_unload().state_dict()
            for name, value in plain.state_dict().items():
                value.add_(weight * (own[name] - start[name]))
    return plain


def write_all() -> None:
    goldens: dict[str, torch.Tensor] = {}
    if "ONLY_OLD" in os.environ:
        for name, (config, moves) in OLD.items():
            make(name, config, moves, goldens)
        save_file(goldens, os.environ["ONLY_OLD"])
        return
    norms: dict[str, dict[str, float]] = {}
    model = new_base()
    shutil.rmtree(HERE / "base", ignore_errors=True)
    model.save_pretrained(HERE / "base", safe_serialization=True)
    (HERE / "base" / "generation_config.json").unlink(missing_ok=True)
    for i, logits in enumerate(answers(model)):
        goldens[f"base.{i}"] = logits
    for name, (config, moves) in ADAPTERS.items():
        make(name, config, moves, goldens, norms)
    for i, logits in enumerate(answers(merged_sum())):
        goldens[f"sum.{i}"] = logits
    old = HERE / "old.safetensors"
    subprocess.run([sys.executable, __file__], check=True, env={**os.environ, "PYTHONPATH": os.environ["OLD_PEFT"], "ONLY_OLD": str(old)})
    goldens.update(load_file(old))
    old.unlink()
    save_file(goldens, HERE / "goldens.safetensors")
    facts = {"peft": peft.__version__, "torch": torch.__version__.split("+")[0], "prompts": PROMPTS, "adapters": [*ADAPTERS, *OLD], "sum": [{"adapter": a, "weight": w} for a, w in SUM], "norms": norms}
    (HERE / "goldens.json").write_text(json.dumps(facts, indent=1) + "\n")


def check(exported: Path) -> None:
    goldens = load_file(HERE / "goldens.safetensors")
    for name in ADAPTERS:
        model = peft.PeftModel.from_pretrained(new_base(), exported / name).eval()
        worst = max((logits - goldens[f"{name}.{i}"]).abs().max().item() for i, logits in enumerate(answers(model)))
        print(f"{name}: largest difference {worst}", flush=True)
        assert worst == 0


boft.get_fbd_cuda = lambda: diagonal
if len(sys.argv) > 1:
    check(Path(sys.argv[2]))
else:
    write_all()
