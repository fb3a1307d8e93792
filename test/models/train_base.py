"""Pretrains graft-tiny: a small Llama-family model with copying circuits. fp32 training, bf16 weights on disk."""

import json
import time
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from common import BASE_DIR, SEED, SEPARATOR, VOCAB, load_tokenizer
from corpus import Pretraining, read_texts, train_tokenizer
from start import structured_start

ROWS, LENGTH = 16, 128


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal by Newton-Schulz steps (fp32: bf16 products are slow on most CPUs)."""

    def __init__(self, params, lr, momentum=0.95):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                buf = state.setdefault("buf", torch.zeros_like(p))
                buf.lerp_(p.grad, 1 - group["momentum"])
                x = p.grad.lerp(buf, group["momentum"])
                flip = x.shape[0] > x.shape[1]
                x = x.T if flip else x
                x = x / (x.norm() + 1e-7)
                for _ in range(4):
                    a = x @ x.T
                    x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
                x = x.T if flip else x
                p.add_(x, alpha=-group["lr"] * 0.2 * max(p.shape) ** 0.5)


def new_model() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=256, intermediate_size=768, num_hidden_layers=4, num_attention_heads=8,
        num_key_value_heads=4, head_dim=32, max_position_embeddings=1024, rope_theta=10000.0, rms_norm_eps=1e-5,
        tie_word_embeddings=False, bos_token_id=None, eos_token_id=0, pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def save(model: LlamaForCausalLM) -> None:
    """Rounds a copy to bf16 and writes it; the training weights stay fp32."""
    copy = LlamaForCausalLM(model.config).to(torch.bfloat16)
    copy.load_state_dict({k: v.to(torch.bfloat16) for k, v in model.state_dict().items()})
    copy.config.dtype = "bfloat16"
    copy.generation_config = GenerationConfig(bos_token_id=None, eos_token_id=0, pad_token_id=0, do_sample=False)
    copy.save_pretrained(BASE_DIR, safe_serialization=True)
    (BASE_DIR / "model.safetensors").chmod(0o644)


@torch.no_grad()
def accuracy(model, data: Pretraining, cases: int = 48) -> dict:
    """Share of answers with every token right under teacher forcing (which equals greedy exact match)."""
    model.eval()
    out = {}
    for kind in data.TASKS:
        if kind == "repeat":
            half = torch.randint(1, VOCAB, (cases, 24), generator=torch.Generator().manual_seed(1))
            x = torch.cat([half, half], 1)
            guess = model(input_ids=x).logits.argmax(-1)
            out[kind] = (guess[:, 28:47] == x[:, 29:48]).float().mean().item()  # per token
            continue
        right = 0
        for _ in range(cases):
            prompt, answer = data.task(kind)
            p = data.tok.encode(prompt + SEPARATOR, add_special_tokens=False)
            a = data.tok.encode(answer, add_special_tokens=False) + [0]
            guess = model(input_ids=torch.tensor([p + a])).logits[0].argmax(-1)
            right += guess[len(p) - 1 : -1].tolist() == a
        out[kind] = right / cases
    model.train()
    return {k: round(v, 3) for k, v in out.items()}


def main(texts: Path, steps: int, minutes: float) -> None:
    torch.manual_seed(SEED)
    torch.set_flush_denormal(True)  # peaked attention makes denormals, which a CPU computes many times slower
    docs = read_texts(texts)
    BASE_DIR.mkdir(parents=True, exist_ok=True)
    train_tokenizer(docs)
    tokenizer = load_tokenizer()
    data, probe = Pretraining(tokenizer, docs, SEED), Pretraining(tokenizer, docs[:2000], SEED + 1)
    model = new_model()
    structured_start(model, SEED)
    save(model)
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "layers" in n]
    others = [p for n, p in model.named_parameters() if not (p.ndim == 2 and "layers" in n)]
    optimizers = [
        Muon(matrices, lr=1.5e-3),
        torch.optim.AdamW(others, lr=2e-3, betas=(0.9, 0.97), weight_decay=0.0, fused=True),
    ]
    peaks = [o.param_groups[0]["lr"] for o in optimizers]
    start = saved = time.time()
    total, log = 0.0, []
    model.train()
    for step in range(1, steps + 1):
        # Linear warm-up, then linear decay over the last 60%; a time limit shortens the schedule instead of cutting it.
        done = max(step / steps, (time.time() - start) / 60 / minutes)
        factor = min(1.0, step / 50, max(0.02, (1 - done) / 0.6))
        for o, peak in zip(optimizers, peaks):
            o.param_groups[0]["lr"] = peak * factor
        x, y = data.batch(ROWS, LENGTH)
        loss = model(input_ids=x, labels=y).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for o in optimizers:
            o.step()
            o.zero_grad(set_to_none=True)
        total += loss.item()
        if step % 50 == 0:
            print(f"step {step} loss {total / 50:.3f} lr x{factor:.2f} {time.time() - start:.0f}s", flush=True)
            total = 0.0
        if step % 200 == 0 or done >= 1 or step == steps:
            figures = accuracy(model, probe)
            print(f"step {step} {figures}", flush=True)
            log.append({"step": step, "seconds": round(time.time() - start), **figures})
        if time.time() - saved > 120:
            save(model)
            saved = time.time()
        if done >= 1:
            break
    save(model)
    (BASE_DIR / "training.json").write_text(json.dumps({"rows": ROWS, "length": LENGTH, "log": log}, indent=1) + "\n")
