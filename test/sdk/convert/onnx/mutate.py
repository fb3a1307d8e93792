"""ONNX Runtime's own verifier on the files of mutate.ts: what it refuses, Graft refuses.

    node mutate.ts out && python mutate.py out      # with onnxruntime
"""
import json
import sys
from collections import Counter
from pathlib import Path

import onnxruntime as ort

OUT = Path(sys.argv[1])
counts, stricter = Counter(), Counter()
for i, ours in enumerate(json.loads((OUT / "verdicts.json").read_text())):
    try:
        ort.AdapterFormat.read_adapter(str(OUT / f"{i}.onnx_adapter"))
        theirs = None
    except Exception as error:
        theirs = str(error)
    assert theirs is None or ours is not None, (i, theirs)
    counts["both accept" if ours is None else "only Graft refuses" if theirs is None else "both refuse"] += 1
    if ours is not None and theirs is None:
        stricter[ours.split(": ", 1)[1].split(" must ")[0]] += 1
print(dict(counts))
for rule, count in stricter.most_common():
    print(f"  only Graft: {count} x {rule}")
