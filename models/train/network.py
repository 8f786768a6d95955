"""The small Llama-style decoder in JAX: shapes, initial weights, forward pass.

Not here: optimisation (train.py) and the ONNX graph of the same function (export.py).
Weights are a flat dict; matrices are stored [inputs, outputs], so y = x @ W.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Shape:
    layers: int = 4
    hidden: int = 128
    heads: int = 4
    kv_heads: int = 2
    feed_forward: int = 384
    vocabulary: int = 768
    rope_theta: float = 10_000.0
    epsilon: float = 1e-5

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads


MATRICES = ("q", "k", "v", "o", "gate", "up", "down")


def initial_weights(shape: Shape, seed: int) -> dict[str, np.ndarray]:
    """Gaussian, 1/sqrt(inputs); what writes into the residual is scaled down by its depth."""
    rng = np.random.default_rng(seed)
    hidden, kv_width = shape.hidden, shape.kv_heads * shape.head_size

    def matrix(rows: int, columns: int, scale: float = 1.0) -> np.ndarray:
        return (rng.standard_normal((rows, columns)) * scale / math.sqrt(rows)).astype(np.float32)

    residual = 1 / math.sqrt(2 * shape.layers)
    weights = {
        "embedding": (rng.standard_normal((shape.vocabulary, hidden)) / math.sqrt(hidden)).astype(np.float32),
        "final_norm": np.ones(hidden, np.float32),
    }
    for i in range(shape.layers):
        weights |= {
            f"{i}.attention_norm": np.ones(hidden, np.float32),
            f"{i}.q": matrix(hidden, hidden),
            f"{i}.k": matrix(hidden, kv_width),
            f"{i}.v": matrix(hidden, kv_width),
            f"{i}.o": matrix(hidden, hidden, residual),
            f"{i}.feed_forward_norm": np.ones(hidden, np.float32),
            f"{i}.gate": matrix(hidden, shape.feed_forward),
            f"{i}.up": matrix(hidden, shape.feed_forward),
            f"{i}.down": matrix(shape.feed_forward, hidden, residual),
        }
    return weights


def _rms_norm(x, weight, epsilon: float):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + epsilon) * weight


def _rotate(x, cos, sin):
    """Rotary embedding, halves not interleaved (as Llama's exports have it)."""
    first, second = jnp.split(x, 2, -1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1)


def logits(weights, shape: Shape, ids, positions, segments):
    """[batch, time, vocabulary] from int arrays [batch, time]; attention stays inside a segment."""
    batch, time = ids.shape
    heads, kv_heads, size = shape.heads, shape.kv_heads, shape.head_size
    # A product with one-hot rows: its gradient is a matrix product, faster on CPUs than a scatter.
    x = jax.nn.one_hot(ids, shape.vocabulary, dtype=jnp.float32) @ weights["embedding"]
    frequencies = (1.0 / shape.rope_theta ** (np.arange(0, size, 2) / size)).astype(np.float32)
    angles = positions[..., None] * frequencies
    cos, sin = jnp.cos(angles)[:, :, None], jnp.sin(angles)[:, :, None]
    allowed = (segments[:, :, None] == segments[:, None, :]) & np.tril(np.ones((time, time), bool))[None]
    bias = jnp.where(allowed, 0.0, -1e9)[:, None, None]
    for i in range(shape.layers):
        y = _rms_norm(x, weights[f"{i}.attention_norm"], shape.epsilon)
        q = _rotate((y @ weights[f"{i}.q"]).reshape(batch, time, heads, size), cos, sin)
        q = q.reshape(batch, time, kv_heads, heads // kv_heads, size) / math.sqrt(size)
        k = _rotate((y @ weights[f"{i}.k"]).reshape(batch, time, kv_heads, size), cos, sin)
        v = (y @ weights[f"{i}.v"]).reshape(batch, time, kv_heads, size)
        attention = jax.nn.softmax(jnp.einsum("bskgd,btkd->bkgst", q, k) + bias, -1)
        mixed = jnp.einsum("bkgst,btkd->bskgd", attention, v).reshape(batch, time, heads * size)
        x = x + mixed @ weights[f"{i}.o"]
        y = _rms_norm(x, weights[f"{i}.feed_forward_norm"], shape.epsilon)
        gated = jax.nn.silu(y @ weights[f"{i}.gate"]) * (y @ weights[f"{i}.up"])
        x = x + gated @ weights[f"{i}.down"]
    return _rms_norm(x, weights["final_norm"], shape.epsilon) @ weights["embedding"].T
