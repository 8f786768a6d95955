"""Writes the folder's settings and its tokenizer from those of the GGUF file."""

import json
import sys

# GGUF's type of a token that only a template may write.
CONTROL = 3


def special(model):
    """Returns the ids of the tokens that only a template may write."""
    return [index for index, kind in enumerate(model.setting("tokenizer.ggml.token_type")) if kind == CONTROL]


def shape_settings(model, shape):
    """Returns config.json."""
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
        "max_position_embeddings": shape.context,
        # The file's number is fp32's nearest to 1e-5.
        "rms_norm_eps": float(f"{shape.epsilon:.6g}"),
        "rope_theta": shape.rope_theta,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        **token_ids(model),
        "torch_dtype": "float32",
    }


def token_ids(model):
    """Returns the ids of the tokens with a part of their own."""
    names = {"bos": "bos", "eos": "eos", "pad": "padding"}
    return {f"{name}_token_id": model.setting(f"tokenizer.ggml.{word}_token_id") for name, word in names.items()}


def tokenizer(model):
    """Returns tokenizer.json: byte-level BPE of GGUF's tokens and merges."""
    kind = (model.setting("tokenizer.ggml.model"), model.setting("tokenizer.ggml.pre"))
    if kind != ("gpt2", "smollm"):
        sys.exit(f"smollm2: the tokenizer {kind} is another one than this script knows")
    tokens = model.setting("tokenizer.ggml.tokens")
    whole = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    bytes_of = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": token, "content": tokens[token], **whole} for token in special(model)],
        "normalizer": None,
        # What llama.cpp calls "smollm": every digit stands alone, the rest is split as GPT-2 does.
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, bytes_of]},
        "post_processor": None,
        "decoder": bytes_of,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in model.setting("tokenizer.ggml.merges")],
        },
    }


def tokenizer_settings(model, shape):
    """Returns tokenizer_config.json, with the chat template as the GGUF file has it."""
    tokens = model.setting("tokenizer.ggml.tokens")
    ids = {**token_ids(model), "unk_token_id": model.setting("tokenizer.ggml.unknown_token_id")}
    named = {name[: -len("_id")]: tokens[token] for name, token in ids.items()}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": shape.context,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": model.setting("tokenizer.ggml.add_bos_token"),
        **named,
        "additional_special_tokens": [tokens[token] for token in special(model)],
        "chat_template": model.setting("tokenizer.chat_template"),
    }


def write(folder, model, shape):
    """Writes the four files."""
    for name, content in (
        ("config.json", shape_settings(model, shape)),
        ("generation_config.json", {**token_ids(model), "max_length": shape.context}),
        ("tokenizer.json", tokenizer(model)),
        ("tokenizer_config.json", tokenizer_settings(model, shape)),
    ):
        text = json.dumps(content, indent=1 if name == "tokenizer.json" else 2, ensure_ascii=False)
        (folder / name).write_text(text + "\n", encoding="utf-8")
