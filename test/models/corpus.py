"""Texts, the tokenizer and the generated pretraining tasks that give the base its copying circuits."""

import json
import random
import re
from pathlib import Path

from common import BASE_DIR, CHAT_TEMPLATE, EOS, SEPARATOR, VOCAB
from tasks import GENERATORS, SHIPPED


def read_texts(folder: Path) -> list[str]:
    """All texts as documents of a few hundred characters to a few thousand."""
    stories = json.loads((folder / "tinystories_1000.json").read_text(encoding="utf-8"))
    docs = [s.strip() for s in stories]
    for name in ("tinyshakespeare.txt", "war-and-peace.txt"):
        text = (folder / name).read_text(encoding="utf-8").replace("\r\n", "\n")
        paragraphs = [re.sub(r"[ \t]+", " ", p.strip()) for p in text.split("\n\n")]
        docs += ["\n\n".join(paragraphs[i : i + 4]) for i in range(0, len(paragraphs), 4)]
    return [d for d in docs if d]


def train_tokenizer(docs: list[str]) -> None:
    """Byte-level BPE; digits stand alone so that numbers copy digit by digit; words keep their leading space."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    r = random.Random("tokenizer")
    generated = []
    for task in SHIPPED:  # the closed words of the skills become short
        for _ in range(6000):
            prompt, answer = GENERATORS[task](r)
            generated.append(prompt + SEPARATOR + answer)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=[EOS], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(docs + generated, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=EOS, pad_token=EOS, model_max_length=1024,
        padding_side="left", clean_up_tokenization_spaces=False, add_bos_token=False, add_eos_token=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    # One file with everything: the template goes inside tokenizer_config.json.
    fast.save_pretrained(BASE_DIR, save_jinja_files=False)


class Pretraining:
    """An endless stream of (token ids, labels) documents: texts and tasks. Prompts of tasks carry no loss."""

    TASKS = ["copy", "repeat", "lookup", "reverse", "nth", "quote", "tag"]

    def __init__(self, tokenizer, docs: list[str], seed: int, text_share: float = 0.2):
        self.tok, self.r, self.text_share = tokenizer, random.Random(seed), text_share
        encoded = tokenizer(docs, add_special_tokens=False)["input_ids"]
        self.text = [t for ids in encoded for t in ids + [0]]
        words = re.findall(r"[A-Za-z]{2,9}", " ".join(docs))
        self.words = sorted(set(self.r.sample(words, 30000)))

    def word(self) -> str:
        return str(self.r.randint(0, 99)) if self.r.random() < 0.12 else self.r.choice(self.words)

    def some(self, low: int, high: int) -> list[str]:
        count, out = self.r.randint(low, high), []
        while len(out) < count:
            w = self.word()
            if w not in out:
                out.append(w)
        return out

    def task(self, kind: str) -> tuple[str, str]:
        r = self.r
        if kind == "copy":
            w = " ".join(self.some(1, 8))
            return f"copy: {w}", w
        if kind == "reverse":
            w = self.some(1, 5)
            return f"reverse: {' '.join(w)}", " ".join(reversed(w))
        if kind == "nth":
            w = self.some(2, 6)
            n = r.randrange(len(w))
            return f"word {n + 1}: {' '.join(w)}", w[n]
        if kind == "quote":
            w = self.some(1, 5)
            return f"quote: {' '.join(w)}", ",".join(f'"{x}"' for x in w)
        if kind == "lookup":
            w = self.some(4, 10)
            pairs = list(zip(w[::2], w[1::2]))
            asked = r.sample(pairs, min(len(pairs), r.randint(1, 2)))
            table = " ; ".join(f"{k} = {v}" for k, v in pairs)
            return f"table: {table} . find {' '.join(k for k, _ in asked)}", " ".join(v for _, v in asked)
        if kind == "tag":  # a classification whose rules stand in the prompt
            w = self.some(4, 6)
            rules = list(zip(w[::2], w[1::2]))
            key, label = r.choice(rules)
            around = self.some(1, 4)
            around.insert(r.randint(0, len(around)), key)
            return f"rules: {' ; '.join(f'{k} is {v}' for k, v in rules)} . text: {' '.join(around)}", label
        raise ValueError(kind)

    def document(self) -> tuple[list[int], list[int]]:
        r = self.r
        if r.random() < self.text_share:
            n = r.randint(48, 120)
            i = r.randrange(len(self.text) - n)
            ids = self.text[i : i + n]
            return ids, ids
        kind = r.choice(self.TASKS)
        if kind == "repeat":  # a random token sequence, then the same again
            seq = [r.randrange(1, len(self.tok)) for _ in range(r.randint(4, 30))]
            times = r.randint(1, 2)
            return seq * (times + 1) + [0], [-100] * (len(seq)) + seq * times + [0]
        prompt, answer = self.task(kind)
        p = self.tok.encode(prompt + SEPARATOR, add_special_tokens=False)
        a = self.tok.encode(answer, add_special_tokens=False) + [0]
        return p + a, [-100] * len(p) + a

    def batch(self, rows: int, length: int):
        """Documents packed one after the other, cut at the row's end."""
        import torch

        ids, labels = [], []
        for _ in range(rows):
            x, y = [], []
            while len(x) < length:
                a, b = self.document()
                x += a
                y += b
            ids.append(x[:length])
            labels.append(y[:length])
        return torch.tensor(ids), torch.tensor(labels)
