#!/usr/bin/env python3
"""Makes the models of the GPU check; nothing is downloaded.

    models.py FOLDER large|small

`FOLDER/infera-tiny` is the bundled model with two more variants, `fp16` and `bf16`. `FOLDER/random` is a Llama of random weights: of
the shape of a model with 135 million parameters (`large`), or of one that a CPU computes at once (`small`). It answers nonsense;
only its size and operators are real.
"""

import argparse
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import half

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = ROOT / "models" / "infera-tiny"
CONTRIB = "com.microsoft"
EPSILON = 1e-5


@dataclasses.dataclass(frozen=True)
class Shape:
    """The sizes of a Llama."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    context: int

    @property
    def head_size(self):
        """Returns the numbers of one head."""
        return self.hidden // self.heads


SHAPES = {
    "large": Shape(30, 576, 9, 3, 1536, 49152, 2048),
    "small": Shape(4, 192, 6, 2, 512, 1024, 512),
}


class Decoder:
    """Collects the nodes and weights of one graph: products of fp32, GroupQueryAttention with the rotary embedding inside."""

    def __init__(self, shape, seed):
        """Begins the graph."""
        self.shape, self.random = shape, np.random.default_rng(seed)
        self.nodes, self.initializers = [], []

    def constant(self, name, value):
        """Adds a tensor; returns its name."""
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def weight(self, name, rows, columns):
        """Adds a matrix of random weights that keep the size of what they are multiplied with."""
        return self.constant(name, self.random.standard_normal((rows, columns), dtype=np.float32) / np.float32(rows**0.5))

    def node(self, operator, inputs, outputs=None, domain="", **attributes):
        """Adds a node; returns its first output."""
        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, outputs or [name], name=name, domain=domain, **attributes))
        return (outputs or [name])[0]

    def norm(self, x, name):
        """Adds a norm."""
        scale = self.constant(name, np.ones(self.shape.hidden, np.float32))
        return self.node("SimplifiedLayerNormalization", [x, scale], axis=-1, epsilon=EPSILON, stash_type=1)

    def product(self, x, name, rows, columns):
        """Multiplies by a matrix of its own."""
        return self.node("MatMul", [x, self.weight(name, rows, columns)])

    def layer(self, x, place, lengths):
        """Adds one layer."""
        shape, kv = self.shape, self.shape.kv_heads * self.shape.head_size
        normed = self.norm(x, f"norm_{place}")
        sizes = (("q", shape.hidden), ("k", kv), ("v", kv))
        projected = [self.product(normed, f"{name}_{place}", shape.hidden, columns) for name, columns in sizes]
        caches = [[f"{way}.{place}.{kind}" for kind in ("key", "value")] for way in ("past_key_values", "present")]
        attended = self.node(
            "GroupQueryAttention",
            [*projected, *caches[0], *lengths, "cos", "sin"],
            [f"attention_{place}", *caches[1]],
            CONTRIB,
            num_heads=shape.heads,
            kv_num_heads=shape.kv_heads,
            scale=float(shape.head_size**-0.5),
            do_rotary=1,
        )
        x = self.node("Add", [x, self.product(attended, f"o_{place}", shape.hidden, shape.hidden)])
        normed = self.norm(x, f"feed_norm_{place}")
        gate = self.product(normed, f"gate_{place}", shape.hidden, shape.feed_forward)
        up = self.product(normed, f"up_{place}", shape.hidden, shape.feed_forward)
        silu = self.node("Mul", [gate, self.node("Sigmoid", [gate])])
        fed = self.product(self.node("Mul", [silu, up]), f"down_{place}", shape.feed_forward, shape.hidden)
        return self.node("Add", [x, fed])

    def build(self):
        """Adds the whole decoder; returns the model."""
        shape = self.shape
        frequencies = 1.0 / 10_000.0 ** (np.arange(0, shape.head_size, 2) / shape.head_size)
        angles = np.arange(shape.context)[:, None] * frequencies
        self.constant("cos", np.cos(angles).astype(np.float32))
        self.constant("sin", np.sin(angles).astype(np.float32))
        one = self.constant("one", np.array([1], np.int64))
        count = self.node("ReduceSum", ["attention_mask", one], keepdims=0)
        last = self.node("Cast", [self.node("Sub", [count, one])], to=TensorProto.INT32)
        index = self.constant("index_one", np.array(1, np.int64))
        width = self.node("Gather", [self.node("Shape", ["attention_mask"]), index])
        lengths = [last, self.node("Cast", [width], to=TensorProto.INT32)]
        x = self.node("Gather", [self.weight("table", shape.vocabulary, shape.hidden), "input_ids"])
        for place in range(shape.layers):
            x = self.layer(x, place, lengths)
        head = self.weight("head", shape.hidden, shape.vocabulary)
        self.node("MatMul", [self.norm(x, "last_norm"), head], ["logits"])
        graph = helper.make_graph(self.nodes, "random", *self.ports(), self.initializers)
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)

    def ports(self):
        """Returns inputs and outputs."""
        shape, info = self.shape, helper.make_tensor_value_info
        inputs = [
            info("input_ids", TensorProto.INT64, ["batch", "sequence"]),
            info("attention_mask", TensorProto.INT64, ["batch", "total"]),
        ]
        outputs = [info("logits", TensorProto.FLOAT, ["batch", "sequence", shape.vocabulary])]
        for place in range(shape.layers):
            for kind in ("key", "value"):
                for ports, way, length in ((inputs, "past_key_values", "past"), (outputs, "present", "total")):
                    sizes = ["batch", shape.kv_heads, length, shape.head_size]
                    ports.append(info(f"{way}.{place}.{kind}", TensorProto.FLOAT, sizes))
        return inputs, outputs


def tiny(folder):
    """Copies the bundled model and adds its variants in 16 bits."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(TINY, folder)
    for variant, word in (("fp16", "float16"), ("bf16", "bfloat16")):
        half.write(TINY / "onnx" / "model.onnx", folder / "onnx" / f"model_{variant}.onnx", word)


def random(folder, shape):
    """Makes the model of random weights, in 16 bits alone."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "onnx").mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(TINY / name, folder / name)
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": shape.context}), encoding="utf-8")
    model = Decoder(shape, seed=7).build()
    data = model.SerializeToString()
    for variant, kind in (("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)):
        half.save(half.convert(onnx.load_from_string(data), kind), folder / "onnx" / f"model_{variant}.onnx")


def main():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("size", choices=SHAPES)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    tiny(options.folder / "infera-tiny")
    random(options.folder / "random", SHAPES[options.size])
    for path in sorted(options.folder.glob("*/onnx/model_?*16.onnx*")):
        print(f"gpu-check: {path.relative_to(options.folder)}, {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
