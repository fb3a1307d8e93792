"""Sends PEFT folders through Graft's operations and back, without the origin, and loads both in real PEFT: the folder that
Graft wrote from operations alone must answer as the author's does.

    python check.py [name ...]       with torch, transformers 4.57.6, peft 0.21.2, and node on the path
"""
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "fixtures"))
import torch  # noqa: E402
from peft import PeftModel  # noqa: E402

import bases  # noqa: E402
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM  # noqa: E402

torch.set_num_threads(1)
OLD = HERE.parent.parent / "fixtures"
NEW = HERE.parent / "fixtures"
# Stacked experts come back only as their author's files.
REFUSED = ("lora-experts-gpt-oss", "lora-experts-llama4", "lora-experts-llama4-one")


def old_base(name):
    if name.endswith("gpt2"):
        torch.manual_seed(8)
        return GPT2LMHeadModel(GPT2Config(vocab_size=48, n_embd=32, n_layer=1, n_head=4, n_positions=32)).eval()
    if not name.endswith("tied"):
        return LlamaForCausalLM.from_pretrained(OLD / "base").eval()
    return None


def cases():
    for folder in sorted(OLD.glob("peft-*")):
        kind = "base-gpt2" if folder.name.endswith("gpt2") else "base-tied" if folder.name.endswith("tied") else "base"
        if kind != "base-tied":
            yield folder.name, folder, OLD / kind, lambda name=folder.name: old_base(name)
    adapters = json.loads((NEW / "fixtures.json").read_text())["adapters"]
    for name, row in adapters.items():
        if not row["transformers"].startswith("4."):
            continue
        yield name, NEW / name, NEW / "bases" / row["base"], lambda on=row["base"]: bases.base(on).eval()


def answers(model):
    if type(model).__name__ == "ResNetForImageClassification":
        torch.manual_seed(5)
        inputs = dict(pixel_values=torch.randn(1, 3, 16, 16))
    else:
        inputs = dict(input_ids=torch.tensor([[3, 14, 15, 9, 26, 5]]))
    return inputs


def outputs(make, folder):
    base = make()
    inputs = answers(base)
    model = PeftModel.from_pretrained(base, folder).eval()
    with torch.no_grad():
        return model(**inputs).logits


def main():
    wanted = set(sys.argv[1:])
    bad = 0
    for name, source, base, make in cases():
        if wanted and name not in wanted:
            continue
        with tempfile.TemporaryDirectory() as out:
            ran = subprocess.run(["node", str(HERE / "drive.ts"), source, base, "peft", out], capture_output=True, text=True)
            if ran.returncode != 0:
                said = next((line for line in ran.stderr.splitlines() if line.startswith("GraftError")), ran.stderr[-300:])
                if ran.returncode == 3:
                    print(f"not read {name}: {said.strip()[:130]}")
                    continue
                ok = name in REFUSED and "stacked experts" in said
                bad += not ok
                print(f"{'refused' if ok else 'FAILED '} {name}: {said.strip()[:160]}")
                continue
            report = json.loads(ran.stdout)
            theirs, ours = outputs(make, source), outputs(make, out)
            with torch.no_grad():
                plain = make()(**answers(make())).logits
            error, size = (theirs - ours).abs().max().item(), theirs.abs().max().item()
            effect = (theirs - plain).abs().max().item() if plain.shape == theirs.shape else float("nan")
            kind = json.loads((Path(out) / "adapter_config.json").read_text())["peft_type"]
            ok = error <= 2e-6 * size and not effect == 0
            bad += not ok
            print(f"{'equal  ' if ok else 'DIFFERS'} {name} as {kind}: max |difference| {error:.2e} of {size:.2f}, effect {effect:.2e}, "
                  f"{len(report['losses'])} losses" + (f" ({report['losses'][0]['what']})" if report["losses"] else ""))
    assert bad == 0, f"{bad} adapters are not the same"


main()
