"""Reads the GGUF file: its settings, and its matrices as blocks of 32 weights.

Two things in it differ from a model folder of the Hub. Matrices are stored as integers with a step per block, and the rows
of the query and key projections are interleaved for the rotary embedding that llama.cpp applies to neighbouring pairs; the
Hub's order pairs the first half of a head with its second half.
"""

import dataclasses
import sys

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, dequantize

BLOCK = 32


@dataclasses.dataclass(frozen=True)
class Blocks:
    """A matrix [rows, columns] by blocks along its columns: a weight is `step * level + minimum`, in fp32."""

    levels: np.ndarray  # integers, [rows, blocks, BLOCK]
    steps: np.ndarray  # fp32, [rows, blocks]
    minima: np.ndarray  # fp32, [rows, blocks]

    def values(self):
        """Returns the weights in fp32, [rows, columns], rounded as ggml rounds them."""
        blocks = self.steps[..., None] * self.levels.astype(np.float32) + self.minima[..., None]
        return blocks.reshape(len(blocks), -1)

    def rows(self, order):
        """Returns the matrix with its rows in another order."""
        return Blocks(self.levels[order], self.steps[order], self.minima[order])

    def above(self, other):
        """Returns the matrix with the rows of another one below its own."""
        pairs = zip(self.fields(), other.fields())
        return Blocks(*(np.concatenate(pair) for pair in pairs))

    def fields(self):
        """Returns levels, steps and minima."""
        return self.levels, self.steps, self.minima


def half(data):
    """Reads fp16 numbers, two bytes each, as fp32."""
    return np.ascontiguousarray(data).view(np.float16)[..., 0].astype(np.float32)


def four_bits(data):
    """Reads rows of Q4_1: step, minimum, then the low nibbles of weights 0 to 15 and the high ones of 16 to 31."""
    blocks = data.reshape(len(data), -1, 4 + BLOCK // 2)
    packed = blocks[..., 4:]
    levels = np.concatenate([packed & 15, packed >> 4], axis=-1)
    return Blocks(levels, half(blocks[..., 0:2]), half(blocks[..., 2:4]))


def eight_bits(data):
    """Reads rows of Q8_0: a step, then signed weights."""
    blocks = data.reshape(len(data), -1, 2 + BLOCK)
    steps = half(blocks[..., 0:2])
    return Blocks(np.ascontiguousarray(blocks[..., 2:]).view(np.int8), steps, np.zeros_like(steps))


READERS = {GGMLQuantizationType.Q4_1: four_bits, GGMLQuantizationType.Q8_0: eight_bits}


def halves_apart(rows, heads):
    """Returns the order of rows in which each head's even rows come before its odd ones: the Hub's order."""
    return np.arange(rows).reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)


class Model:
    """The GGUF file."""

    def __init__(self, path):
        """Opens it; refuses another architecture."""
        self.reader = GGUFReader(path)
        self.tensors = {tensor.name: tensor for tensor in self.reader.tensors}
        if self.setting("general.architecture") != "llama":
            sys.exit(f"smollm2: {path} is no model of the llama architecture")

    def setting(self, name):
        """Returns one of its settings."""
        return self.reader.fields[name].contents()

    def vector(self, name):
        """Returns a tensor that isn't quantised."""
        return np.asarray(self.tensors[name].data, np.float32)

    def matrix(self, name):
        """Returns a matrix by blocks; its values are verified against ggml's own reading."""
        tensor = self.tensors[name]
        blocks = READERS[tensor.tensor_type](tensor.data)
        if not np.array_equal(blocks.values(), dequantize(tensor.data, tensor.tensor_type)):
            sys.exit(f"smollm2: {name} was read otherwise than ggml reads it")
        return blocks

    def attention(self, layer, heads, kv_heads):
        """Returns the joined projections of queries, keys and values, in the Hub's order of rows."""
        query, key, value = (self.matrix(f"blk.{layer}.attn_{kind}.weight") for kind in "qkv")
        query = query.rows(halves_apart(len(query.steps), heads))
        key = key.rows(halves_apart(len(key.steps), kv_heads))
        return query.above(key).above(value)

    def gate_and_up(self, layer):
        """Returns the joined projections of the feed-forward layer's gate and its other input."""
        return self.matrix(f"blk.{layer}.ffn_gate.weight").above(self.matrix(f"blk.{layer}.ffn_up.weight"))


@dataclasses.dataclass(frozen=True)
class Shape:
    """The sizes of the model."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    context: int
    rope_theta: float
    epsilon: float

    @property
    def head_size(self):
        """The size of one head."""
        return self.hidden // self.heads

    @classmethod
    def of(cls, model):
        """Reads the sizes from the GGUF file's settings."""
        setting = model.setting
        return cls(
            layers=setting("llama.block_count"),
            hidden=setting("llama.embedding_length"),
            heads=setting("llama.attention.head_count"),
            kv_heads=setting("llama.attention.head_count_kv"),
            feed_forward=setting("llama.feed_forward_length"),
            vocabulary=setting("llama.vocab_size"),
            context=setting("llama.context_length"),
            rope_theta=setting("llama.rope.freq_base"),
            epsilon=setting("llama.attention.layer_norm_rms_epsilon"),
        )
