"""
Makes fixtures/ again: the cases of the conformance kit and their answers, in NumPy and other people's libraries only.

    python3 -m venv venv && venv/bin/pip install numpy==2.4.6 safetensors==0.8.0 rfc8785==0.1.4 cryptography==50.0.2 \
        flatbuffers==25.12.19
    venv/bin/python make.py

Deterministic: the same files byte for byte. Nothing here reads Graft's code; SPEC.md is what both follow.
"""

import json
import shutil

from recipe import base, blocks, documents, linear, oci, refusals, signatures, sources
from recipe.kit import FIXTURES, answers, cases, file

if __name__ == "__main__":
    shutil.rmtree(FIXTURES, ignore_errors=True)
    documents.canonical_json()
    documents.references()
    documents.safetensors_files()
    base.base_identity()
    linear.low_rank()
    linear.stacks_and_kernels()
    linear.other_linear()
    linear.several()
    linear.dense()
    blocks.bottlenecks()
    blocks.virtual_tokens()
    refusals.manifests()
    refusals.proofs()
    signatures.signatures()
    oci.manifests()
    sources.peft_saves()
    sources.other_saves()
    dump = lambda value: (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()
    file("cases.json", dump(cases))
    file("answers.json", dump(answers))
    print(f"{len(cases)} cases, {sum(p.stat().st_size for p in FIXTURES.rglob('*') if p.is_file())} bytes")
