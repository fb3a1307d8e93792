"""Trains every sample adapter with the tool that users would use, and saves it exactly as the tool does."""

import json
import random
import time

import torch

from common import ADAPTERS_DIR, SEED, SEPARATOR, load_base, load_tokenizer, write_json
from tasks import held_out, training_stream

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]
ROWS = 32


def recipe(name: str, tool: str, task: str, method: str, config: dict, lr: float, steps: int, about: str) -> dict:
    return {"name": name, "tool": tool, "task": task, "method": method, "config": config, "lr": lr, "steps": steps, "about": about}


RECIPES = [
    recipe("json-lora-r16", "peft", "json", "lora", {"r": 16, "lora_alpha": 32, "target_modules": ATTENTION + MLP}, 3e-3, 280,
           "A sentence about a person becomes a JSON record."),
    recipe("sql-lora-r64", "peft", "sql", "lora", {"r": 64, "lora_alpha": 64, "target_modules": ATTENTION + MLP}, 2e-3, 280,
           "A question about a table becomes SQL; a high rank."),
    recipe("intent-dora", "peft", "intent", "dora", {"r": 8, "lora_alpha": 16, "use_dora": True, "target_modules": ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"]}, 3e-3, 160,
           "A request becomes one of eight labels; weight-decomposed LoRA."),
    recipe("json-pfeiffer", "adapters", "json", "seq_bn", {"reduction_factor": 2}, 4e-3, 700,
           "A sentence about a person becomes a JSON record; one bottleneck per layer."),
    recipe("intent-pfeiffer", "adapters", "intent", "seq_bn", {"reduction_factor": 16}, 3e-3, 250,
           "A request becomes one of eight labels; one bottleneck per layer."),
    recipe("intent-houlsby", "adapters", "intent", "double_seq_bn", {"reduction_factor": 16}, 3e-3, 180,
           "A request becomes one of eight labels; two bottlenecks per layer."),
    recipe("sql-lora-r8", "peft", "sql", "lora", {"r": 8, "lora_alpha": 32, "target_modules": ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"]}, 4e-3, 300,
           "A question about a table becomes SQL; a low rank."),
    recipe("json-rslora", "peft", "json", "rslora",
           {"r": 8, "lora_alpha": 8, "use_rslora": True, "target_modules": ATTENTION + ["up_proj", "down_proj"],
            "rank_pattern": {"down_proj": 16, r"model\.layers\.0\.self_attn\.q_proj": 4}, "alpha_pattern": {"down_proj": 16, "v_proj": 12}}, 3e-3, 280,
           "A sentence about a person becomes a JSON record; rank-stabilised, ranks and alphas differ by module."),
    recipe("sql-lora-head", "peft", "sql", "lora+modules_to_save",
           {"r": 16, "lora_alpha": 32, "target_modules": ["q_proj", "v_proj", "down_proj"], "modules_to_save": ["lm_head"]}, 2e-3, 280,
           "A question about a table becomes SQL; LoRA with a whole trained head."),
    recipe("intent-ia3", "peft", "intent", "ia3",
           {"target_modules": ["k_proj", "v_proj", "down_proj"], "feedforward_modules": ["down_proj"]}, 3e-2, 350,
           "A request becomes one of eight labels; learned scales of keys, values and FFN inputs."),
    recipe("intent-prompt", "peft", "intent", "prompt_tuning", {"num_virtual_tokens": 24}, 1e-1, 350,
           "A request becomes one of eight labels; learned virtual tokens only."),
]


def build(spec: dict, base):
    """Wraps the base; returns the model to train."""
    if spec["tool"] == "adapters":
        import adapters

        adapters.init(base)
        base.add_adapter(spec["name"], config=adapters.AdapterConfig.load(spec["method"], **spec["config"]))
        base.train_adapter(spec["name"])
        return base
    import peft

    kinds = {"ia3": peft.IA3Config, "prompt_tuning": peft.PromptTuningConfig}
    config = kinds.get(spec["method"], peft.LoraConfig)(task_type="CAUSAL_LM", **spec["config"])
    return peft.get_peft_model(base, config)


def reload(spec: dict):
    """The saved adapter, read back from disk by its tool onto a fresh base."""
    base, folder = load_base(), ADAPTERS_DIR / spec["name"]
    if spec["tool"] == "adapters":
        import adapters

        adapters.init(base)
        base.load_adapter(str(folder), load_as=spec["name"], use_safetensors=True, set_active=True)
        return base.eval()
    import peft

    return peft.PeftModel.from_pretrained(base, str(folder)).eval()


def encode(tokenizer, pairs: list[tuple[str, str]]):
    """Prompt and answer are tokenised apart and joined; padding is on the right and carries no loss."""
    prompts = tokenizer([p + SEPARATOR for p, _ in pairs], add_special_tokens=False)["input_ids"]
    answers = tokenizer([a for _, a in pairs], add_special_tokens=False)["input_ids"]
    width = max(len(p) + len(a) + 1 for p, a in zip(prompts, answers))
    ids, labels, mask = [], [], []
    for p, a in zip(prompts, answers):
        row, pad = p + a + [0], width - len(p) - len(a) - 1
        ids.append(row + [0] * pad)
        labels.append([-100] * len(p) + a + [0] + [-100] * pad)
        mask.append([1] * len(row) + [0] * pad)
    return torch.tensor(ids), torch.tensor(labels), torch.tensor(mask)


@torch.no_grad()
def greedy(model, tokenizer, prompts: list[str], limit: int = 48, rows: int = 125) -> list[list[int]]:
    """Greedy answers (token ids up to the closing EOS, where it came) in batches of equal prompt length: no padding."""
    encoded = [tokenizer.encode(p + SEPARATOR, add_special_tokens=False) for p in prompts]
    # Virtual tokens shift the positions, and AdapterHub's Llama does not answer alike with a cache: both recompute.
    cached = not hasattr(model, "prompt_encoder") and not hasattr(model, "adapters_config")
    out: list[list[int]] = [[] for _ in prompts]
    by_length: dict[int, list[int]] = {}
    for i, ids in enumerate(encoded):
        by_length.setdefault(len(ids), []).append(i)
    for members in by_length.values():
        for at in range(0, len(members), rows):
            batch = members[at : at + rows]
            x, past, length = torch.tensor([encoded[i] for i in batch]), None, len(encoded[batch[0]])
            finished = torch.zeros(len(batch), dtype=torch.bool)
            for _ in range(limit):
                mask = torch.ones(len(batch), length, dtype=torch.long)
                result = model(input_ids=x, attention_mask=mask, past_key_values=past, use_cache=cached)
                token = result.logits[:, -1].argmax(-1)
                for i, t, over in zip(batch, token.tolist(), finished.tolist()):
                    if not over:
                        out[i].append(t)
                finished |= token == 0
                if finished.all():
                    break
                past = result.past_key_values if cached else None
                x = token[:, None] if cached else torch.cat([x, token[:, None]], 1)
                length += 1
    return out


def exact_match(tokenizer, answers: list[list[int]], cases) -> list[bool]:
    return [ids[-1] == 0 and tokenizer.decode(ids[:-1]) == expected for ids, (_, expected) in zip(answers, cases)]


def train(spec: dict, tokenizer) -> dict:
    torch.manual_seed(SEED)
    model = build(spec, load_base())
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=spec["lr"], betas=(0.9, 0.98), weight_decay=0.0)
    stream, start, total = training_stream(spec["task"], SEED), time.time(), 0.0
    for step in range(1, spec["steps"] + 1):
        for group in optimizer.param_groups:
            group["lr"] = spec["lr"] * min(1.0, step / 30, max(0.02, 2.0 * (1 - step / spec["steps"])))
        ids, labels, mask = encode(tokenizer, [next(stream) for _ in range(ROWS)])
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total += loss.item()
        if step % 50 == 0:
            print(f"{spec['name']} step {step} loss {total / 50:.4f} {time.time() - start:.0f}s", flush=True)
            total = 0.0
    folder = ADAPTERS_DIR / spec["name"]
    folder.mkdir(parents=True, exist_ok=True)
    if spec["tool"] == "adapters":
        model.save_adapter(str(folder), spec["name"], with_head=False, use_safetensors=True)
    else:
        model.save_pretrained(str(folder), safe_serialization=True)
        (folder / "README.md").unlink(missing_ok=True)  # the tool's empty model card
    for file in folder.iterdir():
        file.chmod(0o644)
    return {
        "steps": spec["steps"], "rows": ROWS, "learningRate": spec["lr"], "optimizer": "AdamW", "seed": SEED,
        "trainable": sum(p.numel() for p in parameters), "seconds": round(time.time() - start),
        "config": spec["config"],
    }


def base_scores(tokenizer, tasks: list[str]) -> dict[str, float]:
    base, out = load_base(), {}
    for task in tasks:
        cases = held_out(task)
        out[task] = sum(exact_match(tokenizer, greedy(base, tokenizer, [p for p, _ in cases]), cases)) / len(cases)
    return out


def producer(spec: dict) -> str:
    import importlib.metadata as m

    return f"{spec['tool']}@{m.version(spec['tool'])}"


def score(spec: dict, tokenizer, training: dict) -> None:
    """Scores the saved adapter on the held-out cases and writes its card."""
    cases = held_out(spec["task"])
    answers = greedy(reload(spec), tokenizer, [p for p, _ in cases])
    right = exact_match(tokenizer, answers, cases)
    share = sum(right) / len(cases)
    print(f"{spec['name']} score {share:.3f}", flush=True)
    good = [c for c, ok in zip(cases, right) if ok]
    good = random.Random(SEED).sample(good, min(8, len(good)))
    write_json(ADAPTERS_DIR / spec["name"] / "task.json", {
        "task": spec["task"], "description": spec["about"], "method": spec["method"], "producer": producer(spec), "training": training,
        "score": {"adapter": share, "base": None, "cases": len(cases), "metric": "exact_match"},
        "prompts": [{"prompt": p + SEPARATOR, "expected": a} for p, a in good],
    })


def main(names: list[str], retrain: bool = True) -> None:
    tokenizer = load_tokenizer()
    for spec in RECIPES:
        if names and spec["name"] not in names:
            continue
        if retrain:
            training = train(spec, tokenizer)
        else:
            training = json.loads((ADAPTERS_DIR / spec["name"] / "task.json").read_text(encoding="utf-8"))["training"]
        score(spec, tokenizer, training)
