"""Writes a model folder of a 135M-class Llama shape with random weights, for benchmarks of speed.

It answers nonsense: only its size and operators are real. 30 layers, 576 hidden,
9 heads over 3 key-value heads, feed-forward 1536, vocabulary 49152; 4-bit weights,
grouped-query graph, external data file. Tokenizer files are the small model's; its
768 tokens leave most of the vocabulary unused, which a loader must accept.
"""

import argparse
import pathlib
import shutil

import numpy as np
import onnx

import export
import graph
import network

SHAPE = network.Shape(
    layers=30, hidden=576, heads=9, kv_heads=3, feed_forward=1536, vocabulary=49_152, rope_theta=100_000.0
)
POSITIONS = 2048
TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json"]


def random_weights(seed: int) -> dict[str, np.ndarray]:
    """As before training, but with larger logits, so that samples are not uniform noise."""
    weights = network.initial_weights(SHAPE, seed)
    weights["final_norm"] *= 3
    return weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tokenizer", type=pathlib.Path, default=pathlib.Path(__file__).parents[1] / "infera-tiny")
    # Benchmarks compare with runtimes whose 4-bit kernels round activations to 8 bits; so does level 4.
    parser.add_argument(
        "--accuracy-level",
        type=int,
        default=4,
        choices=[0, 1, 4],
        help="MatMulNBits: 4 computes with 8-bit activations (faster), 0 with fp32 as the bundled model",
    )
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    onnx_folder = arguments.folder / "onnx"
    onnx_folder.mkdir(parents=True, exist_ok=True)
    export.write_configurations(arguments.folder, SHAPE, POSITIONS, "float16")
    for name in TOKENIZER_FILES:
        shutil.copyfile(arguments.tokenizer / name, arguments.folder / name)
    storage = graph.Storage(levels=16, accuracy_level=arguments.accuracy_level)
    model = graph.grouped_query(SHAPE, random_weights(arguments.seed), storage, POSITIONS, "random_q4")
    data = "model.onnx_data"
    (onnx_folder / data).unlink(missing_ok=True)
    onnx.save(model, onnx_folder / "model.onnx", save_as_external_data=True, location=data, size_threshold=1024)
    size = sum(path.stat().st_size for path in onnx_folder.iterdir())
    print(f"{arguments.folder}: {size / 1e6:.1f} MB of weights and graph")


if __name__ == "__main__":
    main()
