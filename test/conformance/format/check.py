"""Compares an implementation's answers with the kit's: RUNNER fixtures > mine.json && python check.py mine.json"""

import json
import pathlib
import sys

FIXTURES = pathlib.Path(__file__).parent / "fixtures"


def difference(got, want, where="answer"):
    """Numbers agree to 1e-5 of the larger one (at least 1); all else is equal."""
    number = lambda v: isinstance(v, (int, float)) and not isinstance(v, bool)
    if number(got) and number(want):
        return None if abs(got - want) <= 1e-5 * max(1, abs(want)) else f"{where}: {got} instead of {want}"
    if isinstance(want, dict) and isinstance(got, dict) and got.keys() == want.keys():
        pairs = [(got[k], want[k], f"{where}.{k}") for k in want]
    elif isinstance(want, list) and isinstance(got, list) and len(got) == len(want):
        pairs = [(g, w, f"{where}[{i}]") for i, (g, w) in enumerate(zip(got, want))]
    else:
        return None if got == want and type(got) is type(want) else f"{where}: {got} instead of {want}"
    return next((d for pair in pairs if (d := difference(*pair))), None)


if __name__ == "__main__":
    mine = json.loads(pathlib.Path(sys.argv[1]).read_text())
    answers = json.loads((FIXTURES / "answers.json").read_text())
    counts = {"right": 0, "wrong": 0, "unsupported": 0}
    for id, want in answers.items():
        got = mine.get(id, {"unsupported": True})
        wrong = None if got == {"unsupported": True} else difference(got, want)
        counts["unsupported" if got == {"unsupported": True} else "wrong" if wrong else "right"] += 1
        if wrong:
            print(f"{id}: {wrong}")
    print(counts)
    sys.exit(1 if counts["wrong"] else 0)
