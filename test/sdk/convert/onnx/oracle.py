"""ONNX Runtime as the judge of what oracle.ts wrote: AdapterFormat reads the same tensors as from Olive's files, and a graph
whose adapter is an input answers, with the file active, what PEFT's adapted layer answers.

    node oracle.ts out && python oracle.py out      # with onnxruntime, onnx, safetensors and numpy
"""
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper
from safetensors.numpy import load_file

HERE = Path(__file__).parent
OUT = Path(sys.argv[1])


def read(path):
    file = ort.AdapterFormat.read_adapter(str(path))
    tensors = {name: value.numpy() for name, value in file.get_parameters().items()}
    return file.get_format_version(), file.get_adapter_version(), file.get_model_version(), tensors


def assert_same(a, b):
    assert a[:3] == b[:3], (a[:3], b[:3])
    assert a[3].keys() == b[3].keys()
    for name, value in a[3].items():
        assert value.dtype == b[3][name].dtype and np.array_equal(value, b[3][name]), name


def graph(sizes):
    """Of every module, (x A) B with A and B as inputs that are empty unless an adapter is active, and all ranks one dimension
    lora_r, as Olive leaves them: files whose ranks differ do not run."""
    f32, nodes, inputs, outputs, defaults = TensorProto.FLOAT, [], [], [], []
    for module, (inside, out) in sizes.items():
        a, b = (f"{module}.lora_{part}.weight" for part in "AB")
        nodes += [helper.make_node("MatMul", [f"{module}.x", a], [f"{module}.xa"]),
                  helper.make_node("MatMul", [f"{module}.xa", b], [f"{module}.y"])]
        rows = f"rows{inside}"
        for name, shape in ((f"{module}.x", [rows, inside]), (a, [inside, "lora_r"]), (b, ["lora_r", out])):
            inputs.append(helper.make_tensor_value_info(name, f32, shape))
        outputs.append(helper.make_tensor_value_info(f"{module}.y", f32, [rows, out]))
        defaults += [helper.make_tensor(a, f32, [inside, 0], []), helper.make_tensor(b, f32, [0, out], [])]
    return helper.make_model(helper.make_graph(nodes, "lora", inputs, outputs, defaults),
                             opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def deltas(sizes, path):
    """What each module adds to unit vectors: its delta [in, out]."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(graph(sizes).SerializeToString(), options, providers=["CPUExecutionProvider"])
    run, adapter = ort.RunOptions(), ort.LoraAdapter()
    if path:
        adapter.Load(str(path))
        run.add_active_adapter(adapter)
    feeds = {f"{module}.x": np.eye(inside, dtype=np.float32) for module, (inside, _) in sizes.items()}
    return dict(zip(sizes, session.run([f"{module}.y" for module in sizes], feeds, run)))


def judge(name):
    path = OUT / f"{name}.onnx_adapter"
    tensors = read(path)[3]
    sizes = {key.removesuffix(".lora_A.weight"): (value.shape[0], tensors[key.replace("lora_A", "lora_B")].shape[1])
             for key, value in tensors.items() if key.endswith(".lora_A.weight")}
    got, idle = deltas(sizes, path), deltas(sizes, None)
    assert all(np.abs(value).max() == 0 for value in idle.values())
    worst, count = 0.0, 0
    for key, delta in load_file(HERE.parent / "fixtures" / name / "expected.safetensors").items():
        if not key.startswith("delta."):
            continue
        site = key.removeprefix("delta.")
        delta = delta if name.endswith("gpt2") else delta.T  # Conv1D's lies as the graph's already
        assert np.abs(delta).max() > 0.01
        error = np.abs(got[site if site.startswith("model.") else f"base_model.model.{site}"] - delta).max()
        worst, count = max(worst, float(error)), count + 1
    assert count and worst < 1e-6, (name, worst)
    return count, worst


for name in ("peft-lora", "peft-rslora", "peft-lora-gpt2"):
    assert_same(read(OUT / f"{name}.onnx_adapter"), read(HERE / "fixtures" / f"{name}.onnx_adapter"))
    print(f"{name}: the tensors of Olive's file")
for path in sorted((OUT / "again").iterdir()):
    assert path.read_bytes() == (HERE / "fixtures" / path.name).read_bytes(), path
    assert_same(read(path), read(HERE / "fixtures" / path.name))
    print(f"{path.stem}: the bytes of the source")
for name in ("peft-lora", "peft-rslora", "peft-lora-patterns", "peft-lora-gpt2"):
    count, worst = judge(name)
    print(f"{name}: {count} layers answer as PEFT's, worst error {worst:.1e}")
