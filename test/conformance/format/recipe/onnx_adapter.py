"""An .onnx_adapter file (onnxruntime/lora/adapter_format/adapter_schema.fbs), by Google's FlatBuffers."""

import flatbuffers
import numpy as np

FLOAT = 1


def onnx_adapter(tensors: dict[str, np.ndarray]) -> bytes:
    builder = flatbuffers.Builder(0)
    rows = []
    for name, tensor in tensors.items():
        data = builder.CreateByteVector(np.ascontiguousarray(tensor).tobytes())
        text = builder.CreateString(name)
        dims = builder.CreateNumpyVector(np.array(tensor.shape, np.int64))
        builder.StartObject(4)
        builder.PrependUOffsetTRelativeSlot(0, text, 0)
        builder.PrependUOffsetTRelativeSlot(1, dims, 0)
        builder.PrependInt32Slot(2, FLOAT, 0)
        builder.PrependUOffsetTRelativeSlot(3, data, 0)
        rows.append(builder.EndObject())
    builder.StartVector(4, len(rows), 4)
    for row in reversed(rows):
        builder.PrependUOffsetTRelative(row)
    parameters = builder.EndVector()
    builder.StartObject(4)
    builder.PrependInt32Slot(0, 1, 0)
    builder.PrependUOffsetTRelativeSlot(3, parameters, 0)
    builder.Finish(builder.EndObject(), file_identifier=b"TORT")
    return bytes(builder.Output())
