"""Goldens: greedy answers, margins and logits, computed in fp32 by the tool that made each adapter, from its saved files."""

import json
import random
from pathlib import Path

import torch
from safetensors.torch import save_file

from common import ADAPTERS_DIR, GOLDENS_DIR, SEED, SEPARATOR, VOCAB, load_base, load_tokenizer, write_json
from corpus import read_texts
from tasks import held_out
from train_adapters import RECIPES, producer, reload


@torch.no_grad()
def run(model, ids: list[int]) -> torch.Tensor:
    """Logits of the real positions (virtual tokens, if any, are cut off), recomputed without a cache."""
    x = torch.tensor([ids])
    return model(input_ids=x, attention_mask=torch.ones_like(x), use_cache=False).logits[0, -len(ids) :].float()


def greedy(model, ids: list[int], limit: int) -> dict:
    """Up to `limit` tokens, EOS included, with each step's distance between the two best logits."""
    out, margins = [], []
    while len(out) < limit:
        best = run(model, ids + out)[-1].topk(2)
        out.append(best.indices[0].item())
        margins.append(round((best.values[0] - best.values[1]).item(), 6))
        if out[-1] == 0:
            break
    return {"tokenIds": out, "margins": margins}


def write(name: str, made_by: str, prompts: list[str], models: dict, limit: int, all_positions: int) -> None:
    """`models` maps tensor prefixes (base, adapted) to models; the last one answers."""
    tokenizer, tensors, entries, offset = load_tokenizer(), {}, [], 0
    for i, text in enumerate(prompts):
        ids = tokenizer.encode(text, add_special_tokens=False)
        positions = list(range(len(ids))) if i == all_positions else list(range(max(0, len(ids) - 4), len(ids)))
        for prefix, model in models.items():
            tensors[f"{prefix}.{i}"] = run(model, ids)[positions].contiguous()
        entry = {"text": text, "tokenIds": ids, "greedy": greedy(list(models.values())[-1], ids, limit), "positions": positions}
        # Rows before this prompt's first row, when the tensors of one prefix are laid end to end.
        for prefix in models:
            entry[f"{prefix}LogitsOffset"] = offset
        offset += len(positions)
        entries.append(entry)
    GOLDENS_DIR.mkdir(parents=True, exist_ok=True)
    file = f"{name}.logits.safetensors"
    save_file(tensors, GOLDENS_DIR / file)
    (GOLDENS_DIR / file).chmod(0o644)
    write_json(GOLDENS_DIR / f"{name}.json", {
        "producer": made_by, "basePrecision": "fp32", "attention": "eager", "vocab": VOCAB, "logitsFile": file, "prompts": entries,
    })


def main(names: list[str], texts: Path) -> None:
    import transformers

    if not names or "base" in names:
        docs = read_texts(texts)
        r = random.Random(SEED)
        short = "copy: river stone 42 light\n=>\n"
        stories = [" ".join(r.choice(docs[:900]).split()[:60]), " ".join(r.choice(docs[-3000:]).split()[:90])]
        prompts = [short, *stories]
        write("base", f"transformers@{transformers.__version__}", prompts, {"base": load_base()}, 256, 0)
    for spec in RECIPES:
        folder = ADAPTERS_DIR / spec["name"]
        if (names and spec["name"] not in names) or not (folder / "task.json").exists():
            continue
        known = json.loads((folder / "task.json").read_text(encoding="utf-8"))["prompts"]
        # An adapter that answers nothing right still has logits to reproduce.
        texts_of = [c["prompt"] for c in known] or [p + SEPARATOR for p, _ in held_out(spec["task"])[:8]]
        prompts = sorted(texts_of, key=len)[:3]
        write(spec["name"], producer(spec), prompts, {"base": load_base(), "adapted": reload(spec)}, 64, 0)
        print("golden", spec["name"], flush=True)
