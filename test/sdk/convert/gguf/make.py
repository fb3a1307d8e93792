"""Makes the folders of fixtures/: for each model family a PEFT adapter on a tiny seeded base, the GGUF that llama.cpp's own
convert_lora_to_gguf.py makes of it, and of the base its config and safetensors header.

    LLAMA_CPP=dir python make.py             # fixtures/
    LLAMA_CPP=dir python make.py --oracle d  # also, outside the repository: base.gguf and PEFT's own answers, for oracle.ts

LLAMA_CPP holds llama.cpp's conversion scripts (convert_lora_to_gguf.py, conversion/, gguf-py/); the source distribution of
llama-cpp-python on PyPI contains them under vendor/llama.cpp. Needs torch, transformers 4.57, peft 0.21.2.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

if os.environ.get("PYTHONHASHSEED") != "0":  # PEFT saves sets of names in hash order
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})

import torch
import transformers as hf
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

LLAMA_CPP = Path(os.environ["LLAMA_CPP"])
sys.path[:0] = [str(LLAMA_CPP / "gguf-py"), str(LLAMA_CPP)]
import gguf  # noqa: E402
from conversion import ModelBase, ModelType, get_model_architecture, get_model_class  # noqa: E402

HERE = Path(__file__).parent / "fixtures"
PROMPT = [3, 14, 15, 9, 26, 5]
VOCAB = 48
SIZES = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False,
             bos_token_id=1, eos_token_id=2, pad_token_id=0)
SPLIT = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
MOE = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16)
GEMMA = {**SIZES, "tie_word_embeddings": True, "head_dim": 8}
GPT2 = dict(vocab_size=VOCAB, n_embd=32, n_layer=1, n_head=4, n_positions=64, n_ctx=64, bos_token_id=1, eos_token_id=2)

# The family whose base the tests load in llama.cpp too, where node-llama-cpp is installed.
JUDGED = "llama-head"

# family: configuration, target modules, further LoraConfig fields, converter's --outtype
FAMILIES = {
    "llama": (hf.LlamaConfig(**{**SIZES, "num_hidden_layers": 2}), SPLIT, {}, "f32"),
    "llama-f16": (hf.LlamaConfig(**SIZES), ["q_proj", "down_proj"], {}, "f16"),
    "llama-bf16": (hf.LlamaConfig(**SIZES), ["q_proj", "down_proj"], {}, "bf16"),
    "llama-q8": (hf.LlamaConfig(**{**SIZES, "intermediate_size": 64}), ["q_proj", "down_proj"], dict(r=32), "q8_0"),
    "llama-head": (hf.LlamaConfig(**SIZES), ["k_proj", "lm_head"], {}, "f32"),
    "llama-embedding": (hf.LlamaConfig(**SIZES), ["q_proj", "embed_tokens"], {}, "f32"),
    "mistral": (hf.MistralConfig(**SIZES), SPLIT, {}, "f32"),
    "qwen2": (hf.Qwen2Config(**SIZES), SPLIT, {}, "f32"),
    "qwen3": (hf.Qwen3Config(**SIZES, head_dim=16), SPLIT, {}, "f32"),
    "gemma": (hf.GemmaConfig(**GEMMA), SPLIT, {}, "f32"),
    "gemma2": (hf.Gemma2Config(**GEMMA, query_pre_attn_scalar=8), SPLIT, {}, "f32"),
    "gemma3": (hf.Gemma3TextConfig(**GEMMA, query_pre_attn_scalar=8), SPLIT, {}, "f32"),
    "phi2": (hf.PhiConfig(**{**SIZES, "num_key_value_heads": 4, "intermediate_size": 128}),
             ["q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"], {}, "f32"),
    "phi3": (hf.Phi3Config(**SIZES), ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"], {}, "f32"),
    "granite": (hf.GraniteConfig(**SIZES), SPLIT, {}, "f32"),
    "smollm3": (hf.SmolLM3Config(**SIZES), SPLIT, {}, "f32"),
    "starcoder2": (hf.Starcoder2Config(**{**SIZES, "tie_word_embeddings": True}),
                   ["q_proj", "k_proj", "v_proj", "o_proj", "c_fc", "c_proj"], {}, "f32"),
    # llama.cpp's converter turns these factors over with Conv1D's weights, although PEFT stores them as a linear layer's:
    # the file that it makes fits no GPT-2, and llama.cpp refuses it too.
    "gpt2": (hf.GPT2Config(**GPT2), ["c_attn", "c_proj", "c_fc"], dict(fan_in_fan_out=True), "f32"),
    "mixtral": (hf.MixtralConfig(**{**SIZES, "num_local_experts": 2}), SPLIT[:4], {}, "f32"),
    "qwen2moe": (hf.Qwen2MoeConfig(**{**SIZES, **MOE, "shared_expert_intermediate_size": 24}),
                 [*SPLIT[:4], *(f"shared_expert.{name}" for name in SPLIT[4:])], {}, "f32"),
    "qwen3moe": (hf.Qwen3MoeConfig(**{**SIZES, **MOE, "head_dim": 8, "norm_topk_prob": True}), SPLIT[:4], {}, "f32"),
    "command-r": (hf.CohereConfig(**{**SIZES, "tie_word_embeddings": True}), SPLIT, {}, "f32"),
    "stablelm": (hf.StableLmConfig(**SIZES), SPLIT, {}, "f32"),
    "olmo2": (hf.Olmo2Config(**SIZES), SPLIT, {}, "f32"),
}


def randomise(model, std, only=lambda name: True):
    with torch.no_grad():
        for name, p in model.named_parameters():
            if only(name):
                p.add_(torch.randn_like(p) * std)


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def base_of(config):
    torch.manual_seed(7)
    model = hf.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float()
    randomise(model, 0.1)
    return model.eval()


def keep_header(folder):
    """Config and safetensors header are all that an import needs of a base."""
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    (folder / "generation_config.json").unlink(missing_ok=True)
    (folder / "header.bin").write_bytes(weights[: 8 + int.from_bytes(weights[:8], "little")])
    (folder / "size.json").write_text(json.dumps({"size": len(weights)}))


def convert_lora(adapter, base, outtype, outfile):
    subprocess.run(
        [sys.executable, LLAMA_CPP / "convert_lora_to_gguf.py", adapter, "--base", base, "--outtype", outtype,
         "--outfile", outfile],
        check=True, capture_output=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})


def convert_base(folder, outfile):
    """llama.cpp's own conversion of the base, with a vocabulary of as many pieces as it has ids."""
    kind = get_model_class(get_model_architecture(ModelBase.load_hparams(folder, False), ModelType.TEXT))

    class Plain(kind):
        model_arch = kind.model_arch

        def set_vocab(self):
            # A BPE vocabulary, for that tokenizer leaves out what it has no piece for; the others fail.
            pieces = ["<pad>", "<s>", "</s>", *(f"p{i}" for i in range(3, VOCAB))]
            self.gguf_writer.add_tokenizer_model("gpt2")
            self.gguf_writer.add_tokenizer_pre("gpt-2")
            self.gguf_writer.add_token_list(pieces)
            self.gguf_writer.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (VOCAB - 3))
            self.gguf_writer.add_token_merges(["p 3"])
            self.gguf_writer.add_bos_token_id(1)
            self.gguf_writer.add_eos_token_id(2)

    Plain(folder, gguf.LlamaFileType.ALL_F32, outfile).write()


def make(name, oracle):
    config, targets, fields, outtype = FAMILIES[name]
    folder = fresh(HERE / name)
    work = fresh((oracle or Path("/tmp/graft-gguf")) / name)
    base_of(config).save_pretrained(work / "base")
    # Without tokenizer files the converter of Phi-3 cannot tell which kind it would be.
    (work / "base" / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    # Gemma 3's cuts the embedding to the vocabulary.
    vocab = {"model": {"vocab": {f"p{i}": i for i in range(VOCAB)}}, "added_tokens": []}
    (work / "base" / "tokenizer.json").write_text(json.dumps(vocab))
    lora = LoraConfig(task_type="CAUSAL_LM", target_modules=targets, **{"r": 2, "lora_alpha": 3, **fields})
    model = get_peft_model(base_of(config), lora).eval()
    torch.manual_seed(11)
    randomise(model, 0.3, lambda n: "lora_" in n)
    model.save_pretrained(folder / "peft", save_embedding_layers=False)
    (folder / "peft" / "README.md").unlink(missing_ok=True)
    convert_lora(folder / "peft", work / "base", outtype, folder / "lora.gguf")
    if oracle or name == JUDGED:
        convert_base(work / "base", work / "base.gguf")
        with torch.no_grad():
            ids = torch.tensor([PROMPT])
            out = {"adapted": model(ids).logits[0].contiguous()}
            with model.disable_adapter():
                out["base"] = model(ids).logits[0].contiguous()
        save_file(out, work / "logits.safetensors")
    if name == JUDGED:
        for file in ("base.gguf", "logits.safetensors"):
            shutil.copy(work / file, folder / file)
    (folder / "base").mkdir()
    for file in ("config.json", "model.safetensors"):
        shutil.copy(work / "base" / file, folder / "base" / file)
    keep_header(folder / "base")
    if not oracle:
        shutil.rmtree(work)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--oracle", type=Path)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    for name in args.names or FAMILIES:
        make(name, args.oracle)
        print(name)


main()
