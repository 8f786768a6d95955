"""Trains the small model: AdamW, packed rows, a fixed number of steps, fixed seeds.

Only the assistant's tokens are learned from. Writes checkpoints (.npz: weights and
optimiser moments) that export.py reads and `--resume` continues from.
"""

import argparse
import functools
import math
import os
import pathlib
import random
import time

# Two XLA devices with half the rows each use two cores better than one device with two threads.
DEVICES = 2
os.environ.setdefault("XLA_FLAGS", f"--xla_force_host_platform_device_count={DEVICES}")

import jax  # noqa: E402  (the flag above must be set first)
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import network  # noqa: E402
import questions  # noqa: E402
import tokenizer as tokenizers  # noqa: E402

ROWS, TIME = 12, 128
PEAK_RATE, FINAL_SHARE, WARM_UP_STEPS = 3e-3, 0.02, 200
DECAY, CLIP, MOMENTUM, SQUARES = 0.1, 1.0, 0.9, 0.98
OPEN_ROWS = 24


def packed_rows(tokenizer, seed: int):
    """Endless rows of (ids, supervised, positions, segments), each TIME long, first-fit packed."""
    rng = random.Random(seed)
    rows: list[list[list[int]]] = []
    while True:
        ids, supervised = tokenizers.encode(tokenizer, questions.conversation(rng))
        if len(ids) > TIME:
            continue
        row = next((row for row in rows if len(row[0]) + len(ids) <= TIME), None)
        if row is None:
            row = [[], [], [], []]
            rows.append(row)
        segment = row[3][-1] + 1 if row[3] else 1
        for column, values in zip(row, (ids, supervised, range(len(ids)), [segment] * len(ids)), strict=True):
            column.extend(values)
        if len(rows) > OPEN_ROWS:
            rows.sort(key=lambda row: len(row[0]))
            full = rows.pop()
            yield [np.array(column + [0] * (TIME - len(column)), np.int32) for column in full]


def batches(tokenizer, seed: int):
    source = packed_rows(tokenizer, seed)
    while True:
        rows = [next(source) for _ in range(ROWS)]
        yield [np.stack(column) for column in zip(*rows, strict=True)]


def mean_loss(weights, shape, ids, supervised, positions, segments):
    scores = network.logits(weights, shape, ids, positions, segments)[:, :-1]
    targets, counted = ids[:, 1:], supervised[:, 1:].astype(jnp.float32)
    chosen = jnp.take_along_axis(scores, targets[..., None], -1)[..., 0]
    return ((jax.nn.logsumexp(scores, -1) - chosen) * counted).sum() / counted.sum()


def learning_rate(step: int, steps: int) -> float:
    """Warm-up, then half a cosine down to FINAL_SHARE of the peak."""
    warm = min(1.0, (step + 1) / WARM_UP_STEPS)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    return PEAK_RATE * warm * (FINAL_SHARE + (1 - FINAL_SHARE) * cosine)


def adamw_step(shape, weights, moments, rate, count, batch):
    loss, gradients = jax.value_and_grad(mean_loss)(weights, shape, *batch)
    norm = jnp.sqrt(sum(jnp.sum(g * g) for g in gradients.values()))
    scale = jnp.minimum(1.0, CLIP / (norm + 1e-6))
    new_weights, new_moments = {}, {}
    for name, weight in weights.items():
        gradient = gradients[name] * scale
        first = MOMENTUM * moments["first." + name] + (1 - MOMENTUM) * gradient
        second = SQUARES * moments["second." + name] + (1 - SQUARES) * gradient * gradient
        update = (first / (1 - MOMENTUM**count)) / (jnp.sqrt(second / (1 - SQUARES**count)) + 1e-8)
        decays = weight.ndim == 2 and name != "embedding"
        new_weights[name] = weight - rate * (update + (DECAY * weight if decays else 0.0))
        new_moments["first." + name], new_moments["second." + name] = first, second
    return new_weights, new_moments, loss


def save_checkpoint(path: pathlib.Path, step: int, weights, moments) -> None:
    arrays = {"weight." + k: np.asarray(v) for k, v in weights.items()}
    arrays |= {k: np.asarray(v) for k, v in moments.items()}
    np.savez(path, step=step, **arrays)


def load_weights(path: pathlib.Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        return {k.removeprefix("weight."): stored[k] for k in stored.files if k.startswith("weight.")}


def initial_state(shape, arguments):
    if arguments.resume is None:
        weights = network.initial_weights(shape, arguments.seed)
        moments = {f"{kind}.{k}": np.zeros_like(v) for kind in ("first", "second") for k, v in weights.items()}
        return 0, weights, moments
    with np.load(arguments.resume) as stored:
        moments = {k: stored[k] for k in stored.files if k.startswith(("first.", "second."))}
        return int(stored["step"]), load_weights(arguments.resume), moments


def train(arguments) -> None:
    tokenizer = tokenizers.load(arguments.tokenizer)
    shape = network.Shape(vocabulary=tokenizer.get_vocab_size())
    start, weights, moments = initial_state(shape, arguments)
    print(f"{sum(w.size for w in weights.values())} parameters, {ROWS * TIME} tokens a step", flush=True)
    mesh = jax.sharding.Mesh(jax.devices()[:DEVICES], ("rows",))
    by_row = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    weights, moments = jax.device_put((weights, moments), everywhere)
    step_function = jax.jit(functools.partial(adamw_step, shape), donate_argnums=(0, 1))
    # A resumed run must not see the same conversations again.
    source = batches(tokenizer, 1000 + arguments.seed + 7919 * start)
    losses, began = [], time.monotonic()
    for step in range(start, arguments.steps):
        # XLA runs the previous step while this line makes the next batch.
        batch = jax.device_put(tuple(next(source)), by_row)
        rate = learning_rate(step, arguments.steps)
        weights, moments, loss = step_function(weights, moments, jnp.float32(rate), jnp.float32(step + 1), batch)
        losses.append(loss)
        done = step + 1
        if done % 100 == 0:
            recent = float(np.mean([float(x) for x in losses[-100:]]))
            seconds = time.monotonic() - began
            print(
                f"step {done} loss {recent:.4f} rate {rate:.2e} seconds {seconds:.0f} "
                f"tokens/s {(done - start) * ROWS * TIME / seconds:.0f}",
                flush=True,
            )
            losses.clear()
        if done % arguments.checkpoint_steps == 0 or done == arguments.steps:
            save_checkpoint(arguments.output / f"step-{done}.npz", done, weights, moments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True, help="folder with tokenizer.json")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="folder for checkpoints")
    parser.add_argument("--steps", type=int, default=13_000)
    parser.add_argument("--checkpoint-steps", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", type=pathlib.Path, help="checkpoint to continue from")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    train(arguments)


if __name__ == "__main__":
    main()
