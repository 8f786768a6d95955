"""The weights as each engine takes them, all made of the one GGUF file and of the folder that infra/smollm2 makes of it."""

import json
import os
import subprocess

import fetch
import place

FOLDER = place.FOLDER


def gguf():
    """Returns the path of the GGUF file, whose checksum is verified."""
    return place.gguf()


def kind(path):
    """Returns the quantisation in a file's name."""
    return path.stem.rpartition(".")[2]


def quantised(kind_wanted):
    """Returns the path of the GGUF file in another quantisation, which llama.cpp's own tool makes once."""
    path = fetch.FOLDER / f"SmolLM2-135M-Instruct.{kind_wanted}.gguf"
    if path.exists():
        return path
    part = path.with_suffix(f".{os.getpid()}.part")
    command = ["/usr/bin/llama-quantize", "--allow-requantize", gguf(), part, kind_wanted]
    fetch.debian_version(False)
    fetch.FOLDER.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(fetch.within_debian(command), capture_output=True, text=True, check=False)
    if done.returncode:
        part.unlink(missing_ok=True)
        raise fetch.Missing(f"llama-quantize makes no {kind_wanted} of the GGUF: {done.stderr.strip()[-200:]}")
    part.replace(path)
    return path


def genai_folder(variant, context, slots, threads):
    """Returns a folder with one of our graphs and the settings that ONNX Runtime GenAI wants beside it."""
    folder = fetch.FOLDER / f"genai-{variant}"
    folder.mkdir(parents=True, exist_ok=True)
    for name in (f"{variant}.onnx", f"{variant}.onnx_data"):
        (folder / name).unlink(missing_ok=True)
        # A link within the file system: it refuses weights behind a symbolic link.
        os.link(FOLDER / "onnx" / name, folder / name)
    shape = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
    decoder = {
        "filename": f"{variant}.onnx",
        "head_size": shape["head_dim"],
        "hidden_size": shape["hidden_size"],
        "num_attention_heads": shape["num_attention_heads"],
        "num_hidden_layers": shape["num_hidden_layers"],
        "num_key_value_heads": shape["num_key_value_heads"],
        "session_options": {"intra_op_num_threads": threads, "provider_options": []},
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {"logits": "logits", "present_key_names": "present.%d.key", "present_value_names": "present.%d.value"},
    }
    settings = {
        "model": {
            "type": "llama",
            "context_length": context,
            "vocab_size": shape["vocab_size"],
            "bos_token_id": shape["bos_token_id"],
            # It wants one; answers have a least length, so that it never ends one.
            "eos_token_id": shape["eos_token_id"],
            "pad_token_id": shape["pad_token_id"],
            "decoder": decoder,
        },
        "search": {"max_length": context, "do_sample": False, "past_present_share_buffer": True},
        "engine": {"static_batching": {"max_batch_size": slots}},
    }
    (folder / "genai_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return folder
