"""Makes fixtures/: .onnx_adapter files that Olive's own `convert-adapters` makes of PEFT folders beside this one, and some that
ONNX Runtime's AdapterFormat and Google's own Python FlatBuffers write.

    python make.py      # with onnxruntime, olive-ai and flatbuffers, and torch, transformers, peft
"""
import shutil
import subprocess
import sys
from pathlib import Path

import flatbuffers
import numpy as np
import onnxruntime as ort

HERE = Path(__file__).parent
PEFT = HERE.parent / "fixtures"
OUT = HERE / "fixtures"


def olive(name, out, *options):
    """The command as a user calls it."""
    code = "import sys; from olive.cli.launcher import main; sys.argv[0] = 'olive'; main()"
    subprocess.run([sys.executable, "-c", code, "convert-adapters", "-a", str(PEFT / name), "-o", str(OUT / out), *options],
                   check=True, capture_output=True)


def adapter_format(out, tensors, **versions):
    file = ort.AdapterFormat()
    file.set_adapter_version(versions.get("adapter", 0))
    file.set_model_version(versions.get("model", 0))
    file.set_parameters({name: ort.OrtValue.ortvalue_from_numpy(value) for name, value in tensors.items()})
    file.export_adapter(str(OUT / out))


def other_layout(out, tensors):
    """The same table from Python's builder, which orders things in another way and shares nothing."""
    builder = flatbuffers.Builder(0)
    rows = []
    for name, value in tensors.items():
        raw = builder.CreateByteVector(value.tobytes())
        text = builder.CreateString(name)
        builder.StartVector(8, value.ndim, 8)
        for dim in reversed(value.shape):
            builder.PrependInt64(dim)
        dims = builder.EndVector()
        builder.StartObject(4)
        builder.PrependUOffsetTRelativeSlot(0, text, 0)
        builder.PrependUOffsetTRelativeSlot(1, dims, 0)
        builder.PrependInt32Slot(2, 1, 0)
        builder.PrependUOffsetTRelativeSlot(3, raw, 0)
        rows.append(builder.EndObject())
    builder.StartVector(4, len(rows), 4)
    for row in reversed(rows):
        builder.PrependUOffsetTRelative(row)
    parameters = builder.EndVector()
    builder.StartObject(4)
    builder.PrependInt32Slot(0, 1, 0)
    builder.PrependInt32Slot(1, 5, 0)
    builder.PrependUOffsetTRelativeSlot(3, parameters, 0)
    builder.Finish(builder.EndObject(), file_identifier=b"TORT")
    (OUT / out).write_bytes(builder.Output())


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    for name in ("peft-lora", "peft-rslora", "peft-lora-gpt2"):
        olive(name, name, "--dtype", "float32")
    olive("peft-lora", "peft-lora-f16", "--dtype", "float16")
    olive("peft-lora", "quantised", "--dtype", "float32", "--quantize_int4", "--int4_block_size", "16")
    rng = np.random.default_rng(3)
    tensors = {}
    for layer in (0, 1):
        path = f"model.layers.{layer}.self_attn.v_proj"
        tensors[f"{path}.lora_A.weight"] = rng.standard_normal((32, 3)).astype(np.float32)
        tensors[f"{path}.lora_B.weight"] = rng.standard_normal((3, 16)).astype(np.float32)
    adapter_format("versions.onnx_adapter", tensors, adapter=3, model=7)
    other_layout("other-layout.onnx_adapter", tensors)


main()
