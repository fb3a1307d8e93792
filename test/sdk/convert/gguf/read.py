"""Python's gguf package as a second reader of what oracle.ts wrote: every file of Graft holds the metadata and the tensors of
the file that llama.cpp's converter makes of the same PEFT folder; and the sizes of ggml's types that Graft knows are its own.

    node oracle.ts out && python read.py out      # with gguf and numpy
"""
import re
import sys
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from gguf.constants import GGML_QUANT_SIZES

HERE = Path(__file__).parent
TYPES = HERE.parents[3] / "sdk/convert/gguf/ggml-types.ts"


def read(path):
    reader = GGUFReader(path)
    texts = {key: field.contents() for key, field in reader.fields.items()}
    return texts, {t.name: (t.tensor_type, list(t.shape), np.array(t.data)) for t in reader.tensors}


def main():
    rows = re.findall(r"\[(\d+), '(\w+)', (\d+), (\d+)\]", TYPES.read_text())
    known = {int(i): (name, int(block), int(size)) for i, name, block, size in rows}
    theirs = {t.value: (t.name, *sizes) for t, sizes in GGML_QUANT_SIZES.items()}
    differ = {name for i, (name, *_) in known.items() if i in theirs and theirs[i] != known[i]}
    # gguf 0.19 counts Q8_1's two halves as two floats; ggml and later versions do not.
    assert differ <= {"Q8_1"}, differ
    print(f"{len(known.keys() & theirs.keys())} tensor types, sizes as in gguf-py but for {differ or 'none'}")
    for folder in sorted(Path(sys.argv[1]).iterdir()):
        ours, tensors = read(folder / "from-peft.gguf")
        want, converted = read(HERE / "fixtures" / folder.name / "lora.gguf")
        for key in ("general.architecture", "general.type", "adapter.type", "adapter.lora.alpha"):
            assert ours[key] == want[key], (folder.name, key)
        if not re.search("f16|q8|gpt2", folder.name):
            assert tensors.keys() == converted.keys()
            for name, (kind, shape, data) in tensors.items():
                assert (kind, shape) == converted[name][:2] and np.array_equal(data, converted[name][2]), name
        print(f"{folder.name}: {len(tensors)} tensors")


main()
