"""Python's gguf package on the files of mutate.ts: what it cannot read, Graft refuses.

    node mutate.ts out && python mutate.py out      # with gguf
"""
import json
import logging
import sys
from collections import Counter
from pathlib import Path

from gguf import GGUFReader

logging.disable(logging.CRITICAL)
OUT = Path(sys.argv[1])
counts, stricter = Counter(), Counter()
for i, ours in enumerate(json.loads((OUT / "verdicts.json").read_text())):
    try:
        reader = GGUFReader(OUT / f"{i}.gguf")
        for field in reader.fields.values():
            field.contents()
        theirs = None
    except Exception as error:
        theirs = f"{type(error).__name__}: {error}"
    assert theirs is None or ours is not None, (i, theirs)
    counts["both accept" if ours is None else "only Graft refuses" if theirs is None else "both refuse"] += 1
    if ours is not None and theirs is None:
        stricter[ours.split(": ", 1)[1].split(" must ")[0][:50]] += 1
print(dict(counts))
for rule, count in stricter.most_common(12):
    print(f"  only Graft: {count} x {rule}")
