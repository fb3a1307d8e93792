"""What every step shares: the prompt convention, the special token, paths and small file helpers."""

import hashlib
import json
import os
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

REPO = Path(__file__).resolve().parents[2]
SAMPLES = REPO / "infra" / "samples"
BASE_DIR = SAMPLES / "base" / "graft-tiny"
ADAPTERS_DIR = SAMPLES / "adapters"
GOLDENS_DIR = SAMPLES / "goldens"
DEFAULT_TEXTS = REPO.parent / "shared" / "data" / "text"

SEED = 20261125
VOCAB = 2048
EOS = "<|endoftext|>"  # id 0: end of answer, end of document and padding
SEPARATOR = "\n=>\n"  # ends every prompt; the answer follows and is closed by EOS

# The last user message is rendered exactly as the raw prompt, so that chat and completion give the same tokens.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'system' -%}{{ message['content'] + '\\n' }}"
    "{%- elif message['role'] == 'user' -%}{{ message['content'] + '\\n=>\\n' }}"
    "{%- elif message['role'] == 'assistant' -%}{{ message['content'] + '<|endoftext|>' }}"
    "{%- endif -%}"
    "{%- endfor -%}"
)


def write_json(path: Path, value, compact: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")) if compact else json.dumps(value, ensure_ascii=False, indent=2)
    path.write_text(text + "\n", encoding="utf-8")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(BASE_DIR)


def load_base():
    """The frozen base: bf16 on disk, upcast to fp32, eager attention, eval mode."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(BASE_DIR, dtype=torch.float32, attn_implementation="eager")
    model.name_or_path = model.config._name_or_path = BASE_DIR.name  # what the tools write into an adapter's config
    return model.eval()
