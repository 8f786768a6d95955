"""Tests of the GPU check's own parts: what it says where something is missing, which libraries it takes from wheels, and models in
16 bits (where numpy and onnx are installed).
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "infra" / "gpu"))
import parts  # noqa: E402

HAS_ONNX = importlib.util.find_spec("onnx") and importlib.util.find_spec("numpy")


def run(*arguments, **environment):
    """Runs the script; returns its status and all that it said."""
    done = subprocess.run(
        ["bash", str(ROOT / "infra" / "gpu_check.sh"), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


class Script(unittest.TestCase):
    """Every refusal says what is missing, what to do, and at which step it stopped."""

    def test_a_machine_without_a_gpu(self):
        """The driver's program is missing, or finds nothing."""
        with tempfile.TemporaryDirectory() as folder:
            for smi, says in (("/nowhere/nvidia-smi", "no NVIDIA GPU"), ("false", "finds no GPU")):
                status, said = run(NVIDIA_SMI=smi, GPU_CHECK_BINARIES=folder)
                self.assertEqual(status, 1, said)
                self.assertIn(says, said)
                self.assertIn("--provider cpu", said)
                self.assertIn("stopped at step 1 (the machine)", said)

    def test_parts_that_are_not_there(self):
        """Each is named, with its step."""
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "libonnxruntime.so"
            status, said = run("--provider", "cpu", INFERA_ONNXRUNTIME_LIBRARY=str(library), GPU_CHECK_BINARIES=folder)
            self.assertEqual(status, 1, said)
            self.assertIn("which is not there", said)
            self.assertIn("stopped at step 2 (ONNX Runtime)", said)
            library.write_bytes(b"")
            status, said = run("--provider", "cpu", INFERA_ONNXRUNTIME_LIBRARY=str(library), GPU_CHECK_BINARIES=folder)
            self.assertEqual(status, 1, said)
            self.assertIn("no program infera", said)
            self.assertIn("stopped at step 3 (the programs)", said)

    def test_unknown_arguments(self):
        """They are no check of something else."""
        for arguments in (["--gpu"], ["--provider", "rocm"], ["--provider"]):
            status, said = run(*arguments)
            self.assertEqual(status, 2, said)
            self.assertIn("unknown arguments", said)


class Parts(unittest.TestCase):
    """The wheels' libraries."""

    def test_libraries_of_a_wheel(self):
        """Shared libraries of every folder are taken, and nothing else."""
        names = [
            "onnxruntime/capi/libonnxruntime.so.1.31.1",
            "onnxruntime/capi/libonnxruntime_providers_cuda.so",
            "onnxruntime/capi/libonnxruntime_providers_tensorrt.so",
            "onnxruntime/capi/onnxruntime_pybind11_state.cpython-312-x86_64-linux-gnu.so",
            "nvidia/cu13/lib/libcublasLt.so.13",
            "nvidia/cu13/include/cublas.h",
            "nvidia/cu13/lib/libcudart_static.a",
        ]
        taken = sorted(parts.libraries(names))
        self.assertEqual(taken, ["libcublasLt.so.13", "libonnxruntime.so.1.31.1", "libonnxruntime_providers_cuda.so"])

    def test_every_part_is_pinned_by_checksum(self):
        """pip is told so too, and asks no index where a folder is named."""
        lines = [line for line in parts.WANTED.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        self.assertGreater(len(lines), 5)
        for line in lines:
            self.assertRegex(line, r"^[a-z0-9-]+==[0-9.]+ --hash=sha256:[0-9a-f]{64}$")
        command = parts.command("/target", Path("/wheels"))
        for word in ("--require-hashes", "--no-index", "--find-links=/wheels"):
            self.assertIn(word, command)
        self.assertNotIn("--no-index", parts.command("/target", None))


@unittest.skipUnless(HAS_ONNX, "numpy and onnx are not installed")
class Models(unittest.TestCase):
    """Graphs in 16 bits."""

    def test_nothing_of_32_bits_is_left(self):
        """In the bundled model and in one of random weights; integers keep their types."""
        import onnx

        import half
        import models

        bundled = onnx.load(models.TINY / "onnx" / "model.onnx")
        for model in (bundled, models.Decoder(models.Shape(1, 32, 2, 1, 64, 50, 16), seed=1).build()):
            wide = len([tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT64])
            for kind in half.TYPES.values():
                converted = half.convert(onnx.load_from_string(model.SerializeToString()), kind)
                types = [tensor.data_type for tensor in converted.graph.initializer]
                self.assertNotIn(onnx.TensorProto.FLOAT, types)
                self.assertIn(kind, types)
                self.assertEqual(types.count(onnx.TensorProto.INT64), wide)
                ports = [*converted.graph.input, *converted.graph.output]
                self.assertEqual({port.type.tensor_type.elem_type for port in ports}, {kind, onnx.TensorProto.INT64})
                targets = [item.i for node in converted.graph.node if node.op_type == "Cast" for item in node.attribute]
                self.assertNotIn(onnx.TensorProto.FLOAT, targets)

    def test_weights_that_are_too_large_are_refused(self):
        """float16 ends at 65504."""
        import numpy as np
        from onnx import numpy_helper

        import half

        with self.assertRaisesRegex(SystemExit, "wide has a weight"):
            half.narrowed(numpy_helper.from_array(np.array([1e6], np.float32), "wide"), half.TYPES["float16"])


if __name__ == "__main__":
    unittest.main()
