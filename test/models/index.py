"""Measures the base on the adapters' tasks and lists everything in samples.json."""

import json

from common import ADAPTERS_DIR, BASE_DIR, GOLDENS_DIR, SAMPLES, SEPARATOR, load_tokenizer, sha256, write_json
from train_adapters import RECIPES, base_scores


def files(folder) -> dict:
    return {p.name: {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in sorted(folder.iterdir()) if p.is_file()}


def main() -> None:
    made = [s for s in RECIPES if (ADAPTERS_DIR / s["name"] / "task.json").exists()]
    scores = base_scores(load_tokenizer(), sorted({s["task"] for s in made}))
    print("base", scores, flush=True)
    adapters = []
    for spec in made:
        folder = ADAPTERS_DIR / spec["name"]
        card = json.loads((folder / "task.json").read_text(encoding="utf-8"))
        card["score"]["base"] = scores[spec["task"]]
        write_json(folder / "task.json", card)
        adapters.append({
            "name": spec["name"], "path": f"adapters/{spec['name']}", "golden": f"goldens/{spec['name']}.json",
            **{k: card[k] for k in ("task", "description", "method", "producer", "score")}, "files": files(folder),
        })
    write_json(SAMPLES / "samples.json", {
        "separator": SEPARATOR,
        "base": {"name": "graft-tiny", "path": "base/graft-tiny", "golden": "goldens/base.json", "files": files(BASE_DIR)},
        "adapters": adapters,
        "goldens": files(GOLDENS_DIR),
    })
