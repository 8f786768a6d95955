"""SmolLM2-135M-Instruct as a model folder: taken from a package of PyPI, written as ONNX, held against llama.cpp."""
