#!/usr/bin/env python3
"""Brings the GPU build of ONNX Runtime into a folder, from wheels that are pinned by checksum (requirements-runtime.txt).

    parts.py FOLDER              downloads them by pip
    parts.py FOLDER --from DIR   takes them from a folder of wheels, without a network

The shared libraries of all wheels lie beside each other afterwards, so that one search path finds them. A folder that was made
from the same list is kept. Needs Python's standard library and its pip.
"""

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

WANTED = Path(__file__).with_name("requirements-runtime.txt")
NOTE = "installed.txt"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64")
# Not what a decoder needs: another execution provider, whose own libraries are 3 GB.
LEFT_OUT = "libonnxruntime_providers_tensorrt.so"


def command(target, source):
    """Returns pip's command that brings the wheels into a folder and holds each against its checksum."""
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    words += ["--only-binary=:all:", "--implementation=cp", "--python-version=3.12", "--abi=cp312", "--abi=none"]
    words += [f"--platform={name}" for name in PLATFORMS]
    words += ["--no-index", f"--find-links={source}"] if source else []
    return [*words, f"--dest={target}", f"--requirement={WANTED}"]


def libraries(names):
    """Returns those names within a wheel that are shared libraries, by the name of their file."""
    found = {}
    for name in names:
        file = PurePosixPath(name).name
        if ".so" in PurePosixPath(file).suffixes and not file.endswith(".cpython-312-x86_64-linux-gnu.so") and file != LEFT_OUT:
            found[file] = name
    return found


def unpack(wheels, folder):
    """Copies the shared libraries of wheels into a folder."""
    for wheel in sorted(wheels):
        with zipfile.ZipFile(wheel) as archive:
            for file, name in libraries(archive.namelist()).items():
                with archive.open(name) as source, (folder / file).open("wb") as target:
                    while block := source.read(1 << 20):
                        target.write(block)


def main():
    """Brings what is missing; prints the path of ONNX Runtime's library."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--from", dest="source", type=Path)
    options = parser.parse_args()
    note = options.folder / NOTE
    if not note.exists() or note.read_text(encoding="utf-8") != WANTED.read_text(encoding="utf-8"):
        options.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
            if subprocess.run(command(scratch, options.source), check=False).returncode:
                where = f"in {options.source}" if options.source else "on the package index"
                sys.exit(f"gpu-check: not every wheel of {WANTED.name} is {where} with its checksum (pip's output is above)")
            unpack(Path(scratch).glob("*.whl"), options.folder)
        note.write_text(WANTED.read_text(encoding="utf-8"), encoding="utf-8")
    found = sorted(options.folder.glob("libonnxruntime.so.*"))
    if not found:
        sys.exit(f"gpu-check: no ONNX Runtime is in {options.folder}: remove it and start again")
    print(found[-1].resolve())


if __name__ == "__main__":
    main()
