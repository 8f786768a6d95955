#!/usr/bin/env python3
"""Writes a decoder's ONNX file in fp16 or bf16 throughout: weights, activations, caches and logits.

    half.py FROM.onnx TO.onnx float16|bfloat16

CUDA computes GroupQueryAttention in these two types alone. Every tensor of fp32 or fp16 takes the new type, inputs and outputs
too; integers stay. For graphs that have no fp32 part which must stay one, as this project's own and ONNX Runtime's model builder's
have none: norms sum in fp32 inside their kernels.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, external_data_helper, helper, numpy_helper

TYPES = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
# Smaller files keep their weights within; protobuf can't hold more than 2 GB.
OUTSIDE_MIN_BYTES = 64 << 20


def narrowed(tensor, kind):
    """Returns an initializer in the new type."""
    values = numpy_helper.to_array(tensor).astype(np.float32)
    if not np.all(np.abs(values) <= np.finfo(np.float16).max):
        raise SystemExit(f"half: {tensor.name} has a weight that float16 can't hold")
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    return numpy_helper.from_array(np.ascontiguousarray(values.astype(dtype)), tensor.name)


def convert(model, kind):
    """Gives every float of a model the new type, in place."""
    graph = model.graph
    for place, tensor in enumerate(graph.initializer):
        if tensor.data_type in FLOATS:
            graph.initializer[place].CopyFrom(narrowed(tensor, kind))
    for port in (*graph.input, *graph.output, *graph.value_info):
        if port.type.tensor_type.elem_type in FLOATS:
            port.type.tensor_type.elem_type = kind
    for node in graph.node:
        if any(attribute.HasField("g") or attribute.HasField("t") for attribute in node.attribute):
            raise SystemExit(f"half: {node.name} holds a graph or a tensor of its own, which is not converted")
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in FLOATS:
                attribute.i = kind
    return model


def save(model, path):
    """Writes a model, its weights beside it if they are large."""
    data = path.with_name(f"{path.name}_data")
    data.unlink(missing_ok=True)
    outside = model.ByteSize() >= OUTSIDE_MIN_BYTES
    external_data_helper.convert_model_from_external_data(model)
    onnx.save(model, path, save_as_external_data=outside, location=data.name, size_threshold=1024)


def write(source, target, word):
    """Converts a file."""
    save(convert(onnx.load(source), TYPES[word]), Path(target))


def main():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("type", choices=TYPES)
    options = parser.parse_args()
    write(options.source, options.target, options.type)


if __name__ == "__main__":
    main()
