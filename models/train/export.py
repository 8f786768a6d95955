"""Writes the model folder from a checkpoint: configurations and four ONNX files.

model.onnx        fp16 storage, grouped-query graph, right padding: the reference
model_q4.onnx     4-bit weights, same graph: right answers, other numbers
model_q2.onnx     weights on a 2-bit grid, same graph: visibly worse answers
model_plain.onnx  fp16 storage, standard operators, left padding: honest, other arithmetic order
"""

import argparse
import json
import pathlib

import onnx

import graph
import network
import tokenizer as tokenizers
import train

VARIANTS = {
    "model": (graph.grouped_query, graph.Storage()),
    "model_q4": (graph.grouped_query, graph.Storage(levels=16)),
    "model_q2": (graph.grouped_query, graph.Storage(levels=4)),
    "model_plain": (graph.plain, graph.Storage()),
}


def llama_config(shape: network.Shape, positions: int, stored_as: str) -> dict:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_size,
        "hidden_act": "silu",
        "max_position_embeddings": positions,
        "rms_norm_eps": shape.epsilon,
        "rope_theta": shape.rope_theta,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizers.BOS,
        "eos_token_id": tokenizers.EOS,
        "pad_token_id": tokenizers.PAD,
        "torch_dtype": stored_as,
    }


def write_configurations(folder: pathlib.Path, shape: network.Shape, positions: int, stored_as: str) -> None:
    generation = {
        "bos_token_id": tokenizers.BOS,
        "eos_token_id": tokenizers.EOS,
        "pad_token_id": tokenizers.PAD,
        "do_sample": False,
        "max_length": positions,
    }
    for name, content in (
        ("config.json", llama_config(shape, positions, stored_as)),
        ("generation_config.json", generation),
    ):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")


def export(checkpoint: pathlib.Path, folder: pathlib.Path) -> None:
    weights = train.load_weights(checkpoint)
    shape = network.Shape(vocabulary=weights["embedding"].shape[0])
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    write_configurations(folder, shape, tokenizers.MAX_POSITIONS, "float16")
    for variant, (build, storage) in VARIANTS.items():
        path = folder / "onnx" / f"{variant}.onnx"
        model = build(shape, weights, storage, tokenizers.MAX_POSITIONS, variant)
        # The checker knows no SimplifiedLayerNormalization, which ONNX Runtime keeps in ONNX's own domain.
        if build is graph.plain:
            onnx.checker.check_model(model)
        onnx.save(model, path)
        print(f"{path}: {path.stat().st_size} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=pathlib.Path, required=True)
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="model folder, with tokenizer.json in it")
    arguments = parser.parse_args()
    export(arguments.checkpoint, arguments.folder)


if __name__ == "__main__":
    main()
