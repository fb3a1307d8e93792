"""Every manifest of the kit against manifest.schema.json, by Python's jsonschema: pip install jsonschema==4.26.0"""

import json
import pathlib

import jsonschema

HERE = pathlib.Path(__file__).parent
schema = json.loads((HERE / "../../../sdk/format/manifest.schema.json").read_text())
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
answers = json.loads((HERE / "fixtures/answers.json").read_text())
counts = {"accepted": 0, "refused": 0, "left to the parser": 0}
for case in json.loads((HERE / "fixtures/cases.json").read_text()):
    if case["kind"] == "manifest":
        manifest, refused = json.loads(case["manifest"]), "error" in answers[case["id"]]
    elif case["kind"] == "verify":
        manifest, refused = json.loads((HERE / "fixtures" / case["manifest"]).read_text()), False
    else:
        continue
    valid = validator.is_valid(manifest)
    assert valid or refused, f"{case['id']}: {next(validator.iter_errors(manifest)).message}"
    counts["refused" if not valid else "left to the parser" if refused else "accepted"] += 1
print(counts)
