"""Writes the decoder as an ONNX file beside a file of weights.

The graph is made as ONNX Runtime's own model builder makes it: GroupQueryAttention with the rotary embedding inside, fused
norms, right padding. Queries, keys and values come from one product, and so do the gate and its other input: fewer, larger
products are faster for one sequence. Caches of past and present may be one buffer of the longest length.

`num_logits_to_keep` (the name that Hugging Face's exports use) says for how many of the last positions logits are computed;
0, its default, is all. It need not be given.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from quantise import quantised
from weights import BLOCK

CONTRIB = "com.microsoft"
OPSET, CONTRIB_OPSET, IR_VERSION = 18, 1, 9
# Tensors of at least this many bytes lie in the file beside the graph, each at a multiple of ALIGNMENT.
OUTSIDE_MIN_BYTES = 1024
ALIGNMENT = 4096
# The activations are rounded to 8 bits, and the sums are over integers: fast, and the same in any batch.
ACCURACY_LEVEL = 4
KEPT = "num_logits_to_keep"


class Weights:
    """The file beside the graph."""

    def __init__(self, path):
        """Begins the file."""
        self.name = path.name
        self.file = path.open("wb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def tensor(self, name, value):
        """Appends a tensor; returns the graph's note of it."""
        value = np.asarray(value, order="C")
        if value.nbytes < OUTSIDE_MIN_BYTES:
            return numpy_helper.from_array(value, name)
        self.file.write(bytes(-self.file.tell() % ALIGNMENT))
        place = {"location": self.name, "offset": str(self.file.tell()), "length": str(value.nbytes)}
        self.file.write(value.data)
        data_type = helper.np_dtype_to_tensor_dtype(value.dtype)
        tensor = TensorProto(name=name, dims=value.shape, data_type=data_type, data_location=TensorProto.EXTERNAL)
        for key, said in place.items():
            tensor.external_data.add(key=key, value=said)
        return tensor


class Graph:
    """Collects the nodes of one file. `bits` is 4 or 8 for quantised products, 32 for fp32."""

    def __init__(self, model, shape, weights, bits):
        self.model, self.shape, self.weights, self.bits = model, shape, weights, bits
        self.nodes, self.initializers = [], {}

    def constant(self, name, value):
        """Adds a tensor once; returns its name."""
        if name not in self.initializers:
            self.initializers[name] = self.weights.tensor(name, value)
        return name

    def integers(self, *values):
        """Adds a list of integers; returns its name."""
        name = "int64_" + "_".join(map(str, values)).replace("-", "m")
        return self.constant(name, np.array(values, np.int64))

    def node(self, operator, inputs, outputs=None, domain="", **attributes):
        """Adds a node; returns its first output."""
        name = f"{operator}_{len(self.nodes)}"
        outputs = outputs or [name]
        self.nodes.append(helper.make_node(operator, inputs, outputs, name=name, domain=domain, **attributes))
        return outputs[0]

    def product(self, x, name, matrix):
        """Multiplies by a matrix of the GGUF file."""
        if self.bits == 32:
            return self.node("MatMul", [x, self.constant(f"{name}.weight", matrix.values().T)])
        levels, steps, zeros = quantised(matrix, self.bits)
        tensors = (("qweight", levels), ("scales", steps), ("qzeros", zeros))
        names = [self.constant(f"{name}.{part}", value) for part, value in tensors]
        return self.quantised_product(x, names, (len(levels), levels.shape[1] * BLOCK), self.bits)

    def quantised_product(self, x, tensors, sizes, bits, output=None):
        """Multiplies by a matrix of `sizes` rows and columns, which is kept as blocks."""
        rows, columns = sizes
        settings = {"N": rows, "K": columns, "bits": bits, "block_size": BLOCK, "accuracy_level": ACCURACY_LEVEL}
        return self.node("MatMulNBits", [x, *tensors], [output] if output else None, CONTRIB, **settings)

    def embedding(self):
        """Looks the tokens up; keeps the table for the output layer, which shares it."""
        table = self.model.matrix("token_embd.weight")
        if self.bits == 32:
            self.table = self.constant("model.embed_tokens.weight", table.values())
            return self.node("Gather", [self.table, "input_ids"])
        # Eight bits about 128 hold the GGUF's own values exactly.
        levels = (table.levels.astype(np.int16) + 128).astype(np.uint8).reshape(len(table.levels), -1)
        self.table = self.constant("model.embed_tokens.qweight", levels)
        self.scales = self.constant("model.embed_tokens.scales", table.steps)
        middle = self.constant("model.embed_tokens.qzeros", np.full(table.steps.shape, 128, np.uint8))
        settings = {"bits": 8, "block_size": BLOCK, "gather_axis": 0, "quantize_axis": 1}
        return self.node("GatherBlockQuantized", [self.table, "input_ids", self.scales, middle], None, CONTRIB, **settings)

    def head(self, x):
        """Computes the logits of the last positions that are wanted."""
        starts = self.node("Unsqueeze", [self.node("Neg", [KEPT]), self.integers(0)])
        last = self.node("Slice", [x, starts, self.integers(np.iinfo(np.int64).max), self.integers(1)])
        rows, columns = self.shape.vocabulary, self.shape.hidden
        if self.bits == 32:
            self.node("MatMul", [last, self.node("Transpose", [self.table], perm=[1, 0])], ["logits"])
            return
        blocks = self.node("Reshape", [self.table, self.integers(rows, columns // BLOCK, BLOCK)])
        self.quantised_product(last, [blocks, self.scales], (rows, columns), 8, "logits")

    def rotary_tables(self):
        """Adds the tables of cosines and sines, each [positions, head size / 2]; returns their names."""
        size = self.shape.head_size
        frequencies = 1.0 / self.shape.rope_theta ** (np.arange(0, size, 2, dtype=np.float64) / size)
        angles = np.arange(self.shape.context)[:, None] * frequencies
        tables = (("cos_cache", np.cos(angles)), ("sin_cache", np.sin(angles)))
        return [self.constant(name, table.astype(np.float32)) for name, table in tables]

    def lengths(self):
        """Adds what attention asks of the mask: the place of each row's last key, and the mask's width."""
        count = self.node("ReduceSum", ["attention_mask", self.integers(1)], keepdims=0)
        last = self.node("Cast", [self.node("Sub", [count, self.integers(1)])], to=TensorProto.INT32)
        one = self.constant("index_one", np.array(1, np.int64))
        width = self.node("Gather", [self.node("Shape", ["attention_mask"]), one])
        return [last, self.node("Cast", [width], to=TensorProto.INT32)]

    def attention(self, x, layer, lengths, tables):
        """Adds one layer's attention."""
        shape, name = self.shape, f"model.layers.{layer}.self_attn"
        packed = self.product(x, f"{name}.qkv_proj", self.model.attention(layer, shape.heads, shape.kv_heads))
        caches = [[f"{way}.{layer}.{kind}" for kind in ("key", "value")] for way in ("past_key_values", "present")]
        mixed = self.node(
            "GroupQueryAttention",
            [packed, "", "", *caches[0], *lengths, *tables],
            [f"attention_{layer}", *caches[1]],
            CONTRIB,
            num_heads=shape.heads,
            kv_num_heads=shape.kv_heads,
            scale=float(shape.head_size**-0.5),
            do_rotary=1,
            rotary_interleaved=0,
            local_window_size=-1,
        )
        return self.product(mixed, f"{name}.o_proj", self.model.matrix(f"blk.{layer}.attn_output.weight"))

    def feed_forward(self, x, layer):
        """Adds one layer's feed-forward part."""
        name = f"model.layers.{layer}.mlp"
        both = self.product(x, f"{name}.gate_up_proj", self.model.gate_and_up(layer))
        gate, up = f"{name}.gate", f"{name}.up"
        self.node("Split", [both], [gate, up], axis=-1, num_outputs=2)
        silu = self.node("Mul", [gate, self.node("Sigmoid", [gate])])
        return self.product(self.node("Mul", [silu, up]), f"{name}.down_proj", self.model.matrix(f"blk.{layer}.ffn_down.weight"))

    def add_and_norm(self, x, residual, tensor):
        """Adds a part's result to the sum of those before it; returns the normed sum, and the sum."""
        norm = self.constant(tensor, self.model.vector(tensor))
        total = f"residual_{len(self.nodes)}"
        inputs, outputs = [x, residual, norm], [f"normed_{len(self.nodes)}", "", "", total]
        normed = self.node("SkipSimplifiedLayerNormalization", inputs, outputs, CONTRIB, epsilon=self.shape.epsilon)
        return normed, total

    def build(self):
        """Adds the whole decoder."""
        self.constant(KEPT, np.array(0, np.int64))
        tables, lengths = self.rotary_tables(), self.lengths()
        residual = self.embedding()
        first = self.constant("blk.0.attn_norm.weight", self.model.vector("blk.0.attn_norm.weight"))
        settings = {"axis": -1, "epsilon": self.shape.epsilon, "stash_type": 1}
        x = self.node("SimplifiedLayerNormalization", [residual, first], **settings)
        for layer in range(self.shape.layers):
            is_last = layer + 1 == self.shape.layers
            after = "output_norm.weight" if is_last else f"blk.{layer + 1}.attn_norm.weight"
            x, residual = self.add_and_norm(self.attention(x, layer, lengths, tables), residual, f"blk.{layer}.ffn_norm.weight")
            x, residual = self.add_and_norm(self.feed_forward(x, layer), residual, after)
        self.head(x)

    def ports(self):
        """Returns the graph's inputs and outputs."""
        shape, info = self.shape, helper.make_tensor_value_info
        inputs = [
            info("input_ids", TensorProto.INT64, ["batch_size", "sequence_length"]),
            info("attention_mask", TensorProto.INT64, ["batch_size", "total_sequence_length"]),
        ]
        outputs = [info("logits", TensorProto.FLOAT, ["batch_size", "logits_length", shape.vocabulary])]
        for layer in range(shape.layers):
            for kind in ("key", "value"):
                for ports, name, length in (
                    (inputs, f"past_key_values.{layer}.{kind}", "past_sequence_length"),
                    (outputs, f"present.{layer}.{kind}", "present_sequence_length"),
                ):
                    sizes = ["batch_size", shape.kv_heads, length, shape.head_size]
                    ports.append(info(name, TensorProto.FLOAT, sizes))
        inputs.append(info(KEPT, TensorProto.INT64, []))
        return inputs, outputs

    def proto(self, variant):
        """Returns the model, which names its variant and its padding."""
        graph = helper.make_graph(self.nodes, "smollm2", *self.ports(), list(self.initializers.values()))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, CONTRIB_OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        helper.set_model_props(model, {"infera.padding": "right", "infera.variant": variant})
        return model


def write(folder, variant, bits, model, shape):
    """Writes one variant: `folder/variant.onnx`, and its weights in `folder/variant.onnx_data`."""
    with Weights(folder / f"{variant}.onnx_data") as weights:
        graph = Graph(model, shape, weights, bits)
        graph.build()
    onnx.save(graph.proto(variant), folder / f"{variant}.onnx")
