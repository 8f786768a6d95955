"""Writes ONNX graphs of a Llama-style decoder from a flat dict of weights.

Two graphs of the same function: `grouped_query` (contrib operators, right padding,
as model builders for ONNX Runtime emit them) and `plain` (standard operators only,
left padding). Inputs and outputs carry Optimum's names. All arithmetic is fp32;
fp16 and 4-bit integers are storage only.

Not here: which files a model folder holds (export.py).
"""

import dataclasses

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import network

CONTRIB = "com.microsoft"
OPSET, CONTRIB_OPSET, IR_VERSION = 18, 1, 9
BLOCK = 32
MATRIX_NAMES = dict(
    q="self_attn.q_proj",
    k="self_attn.k_proj",
    v="self_attn.v_proj",
    o="self_attn.o_proj",
    gate="mlp.gate_proj",
    up="mlp.up_proj",
    down="mlp.down_proj",
)


@dataclasses.dataclass(frozen=True)
class Storage:
    """How matrices lie in the file. `levels` 0: fp16; 16 or 4: integers of that grid, four bits each."""

    levels: int = 0
    # 0 computes with fp32 activations: prefill and decode then agree to rounding. Level 4 rounds
    # activations to 8 bits, where a tiny difference can flip a rounding.
    accuracy_level: int = 0


def quantised_blocks(weight: np.ndarray, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """[inputs, outputs] -> packed 4-bit values [outputs, blocks, BLOCK / 2] and scales [outputs * blocks].

    Symmetric about 8: value = (stored - 8) * scale. The element of largest magnitude in a
    block lies on the grid's most negative level, so its sign decides the scale's sign.
    """
    inputs, outputs = weight.shape
    half = levels // 2
    blocks = np.ascontiguousarray(weight.T).reshape(outputs, inputs // BLOCK, BLOCK)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)
    scales = (extreme / -half).astype(np.float32)
    scales[scales == 0] = 1
    values = (np.clip(np.round(blocks / scales), -half, half - 1) + 8).astype(np.uint8)
    return values[..., 0::2] | (values[..., 1::2] << 4), scales.reshape(-1)


class DecoderGraph:
    """Collects nodes and initializers; one instance writes one model."""

    def __init__(self, shape: network.Shape, weights, storage: Storage, positions: int):
        self.shape, self.weights, self.storage, self.positions = shape, weights, storage, positions
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: np.ndarray) -> str:
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def integers(self, *values: int) -> str:
        return self.constant("int64_" + "_".join(map(str, values)).replace("-", "m"), np.array(values, np.int64))

    def scalar(self, name: str, value: float) -> str:
        return self.constant(name, np.array(value, np.float32))

    def node(self, operator: str, inputs: list[str], output: str | None = None, domain: str = "", **attributes) -> str:
        return self.node_outputs(operator, inputs, [output or f"{operator}_{len(self.nodes)}"], domain, **attributes)

    def node_outputs(self, operator: str, inputs: list[str], outputs: list[str], domain: str, **attributes) -> str:
        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, outputs, name=name, domain=domain, **attributes))
        return outputs[0]

    def half_precision(self, name: str, value: np.ndarray) -> str:
        """fp16 in the file, fp32 in use; ONNX Runtime folds the Cast when it loads."""
        stored = self.constant(name, value.astype(np.float16))
        if not any(stored in node.input for node in self.nodes):
            self.node("Cast", [stored], name + ".fp32", to=TensorProto.FLOAT)
        return name + ".fp32"

    def quantised_product(self, x: str, name: str, weight: np.ndarray, levels: int, output: str | None = None) -> str:
        packed, scales = quantised_blocks(weight, levels)
        inputs, outputs = weight.shape
        return self.node(
            "MatMulNBits",
            [x, self.constant(name + ".qweight", packed), self.constant(name + ".scales", scales)],
            output,
            CONTRIB,
            K=inputs,
            N=outputs,
            bits=4,
            block_size=BLOCK,
            accuracy_level=self.storage.accuracy_level,
        )

    def product(self, x: str, layer: int, matrix: str) -> str:
        weight, name = self.weights[f"{layer}.{matrix}"], f"model.layers.{layer}.{MATRIX_NAMES[matrix]}"
        if self.storage.levels:
            return self.quantised_product(x, name, weight, self.storage.levels)
        return self.node("MatMul", [x, self.half_precision(name + ".weight", weight)])

    def embedding(self) -> str:
        return self.half_precision("model.embed_tokens.weight", self.weights["embedding"])

    def head(self, x: str) -> None:
        """The output layer shares the embedding; a quantised file holds its own 4-bit copy."""
        if self.storage.levels:
            self.quantised_product(x, "lm_head", self.weights["embedding"].T, 16, "logits")
        else:
            self.node("MatMul", [x, self.node("Transpose", [self.embedding()], perm=[1, 0])], "logits")

    def feed_forward(self, x: str, layer: int) -> str:
        gate, up = self.product(x, layer, "gate"), self.product(x, layer, "up")
        silu = self.node("Mul", [gate, self.node("Sigmoid", [gate])])
        return self.product(self.node("Mul", [silu, up]), layer, "down")

    def rotary_tables(self) -> tuple[np.ndarray, np.ndarray]:
        """cos and sin, each [positions, head_size / 2]."""
        size = self.shape.head_size
        frequencies = 1.0 / self.shape.rope_theta ** (np.arange(0, size, 2, dtype=np.float64) / size)
        angles = np.arange(self.positions)[:, None] * frequencies
        return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    def norm_weight(self, position: int) -> tuple[str, np.ndarray]:
        """Norms in order of use: two a layer, then the final one."""
        layer, second = divmod(position, 2)
        if layer == self.shape.layers:
            return "model.norm.weight", self.weights["final_norm"]
        if second:
            return f"model.layers.{layer}.post_attention_layernorm.weight", self.weights[f"{layer}.feed_forward_norm"]
        return f"model.layers.{layer}.input_layernorm.weight", self.weights[f"{layer}.attention_norm"]

    def model(self, properties: dict[str, str]) -> onnx.ModelProto:
        shape, info = self.shape, helper.make_tensor_value_info
        inputs = [
            info(name, TensorProto.INT64, ["batch_size", width])
            for name, width in (
                ("input_ids", "sequence_length"),
                ("attention_mask", "total_sequence_length"),
                ("position_ids", "sequence_length"),
            )
        ]
        outputs = [info("logits", TensorProto.FLOAT, ["batch_size", "sequence_length", shape.vocabulary])]
        for i in range(shape.layers):
            for kind in ("key", "value"):

                def cache(length: str) -> list:
                    return ["batch_size", shape.kv_heads, length, shape.head_size]

                inputs.append(info(f"past_key_values.{i}.{kind}", TensorProto.FLOAT, cache("past_sequence_length")))
                outputs.append(info(f"present.{i}.{kind}", TensorProto.FLOAT, cache("total_sequence_length")))
        graph = helper.make_graph(self.nodes, "llama", inputs, outputs, list(self.initializers.values()))
        contrib = [helper.make_opsetid(CONTRIB, CONTRIB_OPSET)] if any(n.domain == CONTRIB for n in self.nodes) else []
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET), *contrib], ir_version=IR_VERSION
        )
        helper.set_model_props(model, properties)
        return model


class GroupedQueryGraph(DecoderGraph):
    """GroupQueryAttention with rotary inside, fused norms, right padding."""

    def norm(self, x: str, position: int) -> str:
        return self.node(
            "SimplifiedLayerNormalization",
            [x, self.constant(*self.norm_weight(position))],
            axis=-1,
            epsilon=self.shape.epsilon,
            stash_type=1,
        )

    def add_and_norm(self, x: str, residual: str, position: int) -> tuple[str, str]:
        """(normed sum, sum)"""
        normed, total = f"normed_{position}", f"residual_{position}"
        self.node_outputs(
            "SkipSimplifiedLayerNormalization",
            [x, residual, self.constant(*self.norm_weight(position))],
            [normed, "", "", total],
            CONTRIB,
            epsilon=self.shape.epsilon,
        )
        return normed, total

    def attention(self, x: str, layer: int, lengths: str, total: str) -> str:
        shape = self.shape
        q, k, v = (self.product(x, layer, matrix) for matrix in "qkv")
        self.node_outputs(
            "GroupQueryAttention",
            [
                q,
                k,
                v,
                f"past_key_values.{layer}.key",
                f"past_key_values.{layer}.value",
                lengths,
                total,
                "cos_cache",
                "sin_cache",
            ],
            [f"attention_{layer}", f"present.{layer}.key", f"present.{layer}.value"],
            CONTRIB,
            num_heads=shape.heads,
            kv_num_heads=shape.kv_heads,
            scale=float(shape.head_size**-0.5),
            do_rotary=1,
            rotary_interleaved=0,
            local_window_size=-1,
        )
        return self.product(f"attention_{layer}", layer, "o")

    def build(self) -> None:
        cos, sin = self.rotary_tables()
        self.constant("cos_cache", cos)
        self.constant("sin_cache", sin)
        # seqlens_k is the index of a row's last key; total is the mask's width.
        count = self.node("ReduceSum", ["attention_mask", self.integers(1)], keepdims=0)
        lengths = self.node("Cast", [self.node("Sub", [count, self.integers(1)])], to=TensorProto.INT32)
        width = self.node(
            "Gather", [self.node("Shape", ["attention_mask"]), self.constant("index_one", np.array(1, np.int64))]
        )
        total = self.node("Cast", [width], to=TensorProto.INT32)
        residual = self.node("Gather", [self.embedding(), "input_ids"])
        x = self.norm(residual, 0)
        for i in range(self.shape.layers):
            x, residual = self.add_and_norm(residual, self.attention(x, i, lengths, total), 2 * i + 1)
            x, residual = self.add_and_norm(residual, self.feed_forward(x, i), 2 * i + 2)
        self.head(x)


class PlainGraph(DecoderGraph):
    """Standard operators only: attention spelled out, keys repeated per head group, left padding."""

    def norm(self, x: str, position: int) -> str:
        square = self.node("ReduceMean", [self.node("Mul", [x, x]), self.integers(-1)], keepdims=1)
        root = self.node("Sqrt", [self.node("Add", [square, self.scalar("epsilon", self.shape.epsilon)])])
        return self.node("Mul", [self.node("Div", [x, root]), self.constant(*self.norm_weight(position))])

    def mask_bias(self, total: str, time: str) -> str:
        """[batch, 1, time, total]: 0 where a query may look, the lowest float elsewhere."""
        first, one = self.constant("zero_index", np.array(0, np.int64)), self.constant(
            "index_one", np.array(1, np.int64)
        )
        axis = self.integers(0)
        past = self.node("Sub", [total, time])
        keys = self.node("Range", [first, self.node("Squeeze", [total, axis]), one])
        queries = self.node("Add", [self.node("Range", [first, self.node("Squeeze", [time, axis]), one]), past])
        causal = self.node(
            "LessOrEqual", [self.node("Unsqueeze", [keys, axis]), self.node("Unsqueeze", [queries, self.integers(1)])]
        )
        present = self.node(
            "Cast", [self.node("Unsqueeze", ["attention_mask", self.integers(1, 2)])], to=TensorProto.BOOL
        )
        lowest = self.scalar("lowest", float(np.finfo(np.float32).min))
        return self.node("Where", [self.node("And", [causal, present]), self.scalar("zero", 0.0), lowest])

    def rotated(self, x: str, cos: str, sin: str) -> str:
        half, axis = self.shape.head_size // 2, self.integers(3)
        first = self.node("Slice", [x, self.integers(0), self.integers(half), axis])
        second = self.node("Slice", [x, self.integers(half), self.integers(2 * half), axis])
        turned = self.node("Concat", [self.node("Neg", [second]), first], axis=-1)
        return self.node("Add", [self.node("Mul", [x, cos]), self.node("Mul", [turned, sin])])

    def split_heads(self, x: str, heads: int) -> str:
        return self.node(
            "Transpose",
            [self.node("Reshape", [x, self.integers(0, 0, heads, self.shape.head_size)])],
            perm=[0, 2, 1, 3],
        )

    def repeated(self, x: str, expanded: str, merged: str) -> str:
        """[batch, kv_heads, total, size] -> [batch, heads, total, size]"""
        return self.node(
            "Reshape", [self.node("Expand", [self.node("Unsqueeze", [x, self.integers(2)]), expanded]), merged]
        )

    def attention(self, x: str, layer: int, rotary: tuple[str, str], views: tuple[str, str, str]) -> str:
        shape, (bias, expanded, merged) = self.shape, views
        q = self.rotated(self.split_heads(self.product(x, layer, "q"), shape.heads), *rotary)
        k = self.rotated(self.split_heads(self.product(x, layer, "k"), shape.kv_heads), *rotary)
        v = self.split_heads(self.product(x, layer, "v"), shape.kv_heads)
        k = self.node("Concat", [f"past_key_values.{layer}.key", k], f"present.{layer}.key", axis=2)
        v = self.node("Concat", [f"past_key_values.{layer}.value", v], f"present.{layer}.value", axis=2)
        keys = self.node("Transpose", [self.repeated(k, expanded, merged)], perm=[0, 1, 3, 2])
        scores = self.node("Mul", [self.node("MatMul", [q, keys]), self.scalar("scale", shape.head_size**-0.5)])
        shares = self.node("Softmax", [self.node("Add", [scores, bias])], axis=-1)
        mixed = self.node("MatMul", [shares, self.repeated(v, expanded, merged)])
        joined = self.node(
            "Reshape", [self.node("Transpose", [mixed], perm=[0, 2, 1, 3]), self.integers(0, 0, shape.hidden)]
        )
        return self.product(joined, layer, "o")

    def build(self) -> None:
        shape = self.shape
        ids_shape, mask_shape = self.node("Shape", ["input_ids"]), self.node("Shape", ["attention_mask"])
        batch, time = (self.node("Gather", [ids_shape, self.integers(i)]) for i in (0, 1))
        total = self.node("Gather", [mask_shape, self.integers(1)])
        size, group = self.integers(shape.head_size), shape.heads // shape.kv_heads
        expanded = self.node(
            "Concat", [batch, self.integers(shape.kv_heads), self.integers(group), total, size], axis=0
        )
        merged = self.node("Concat", [batch, self.integers(shape.heads), total, size], axis=0)
        views = (self.mask_bias(total, time), expanded, merged)
        tables = zip(("cos_cache", "sin_cache"), self.rotary_tables(), strict=True)
        rotary = tuple(
            self.node(
                "Unsqueeze",
                [
                    self.node("Gather", [self.constant(name, np.concatenate([table, table], 1)), "position_ids"]),
                    self.integers(1),
                ],
            )
            for name, table in tables
        )
        residual = self.node("Gather", [self.embedding(), "input_ids"])
        for i in range(shape.layers):
            residual = self.node("Add", [residual, self.attention(self.norm(residual, 2 * i), i, rotary, views)])
            residual = self.node("Add", [residual, self.feed_forward(self.norm(residual, 2 * i + 1), i)])
        self.head(self.norm(residual, 2 * shape.layers))


def grouped_query(shape, weights, storage: Storage, positions: int, variant: str) -> onnx.ModelProto:
    graph = GroupedQueryGraph(shape, weights, storage, positions)
    graph.build()
    return graph.model({"infera.padding": "right", "infera.variant": variant})


def plain(shape, weights, storage: Storage, positions: int, variant: str) -> onnx.ModelProto:
    graph = PlainGraph(shape, weights, storage, positions)
    graph.build()
    return graph.model({"infera.padding": "left", "infera.variant": variant})
