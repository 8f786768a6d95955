#!/usr/bin/env bash
# Checks the engine on an NVIDIA GPU: conformance suite, self-check of two processes, tokens per second at 1, 8 and 32 sequences, and
# the whole path from a client's request to a verified answer. Made for a bare Debian with Rust, Python and NVIDIA's driver, or
# one without a network; under six minutes. It stops at the first step that fails, names it, and exits with 1.
#
#   infra/gpu_check.sh                  the whole check
#   infra/gpu_check.sh --provider cpu   every step on the CPU with small models: tries this script, and says nothing of GPUs
#
# What it takes from the environment:
#   GPU_CHECK_PARTS      a folder of wheels (infra/gpu/requirements-*.txt and what they need); nothing is downloaded then
#   GPU_CHECK_BINARIES   a folder with `infera` and `device_check`, built elsewhere; nothing is compiled then
#   GPU_CHECK_PYTHON     a Python that has numpy and onnx; no environment is made then
#   INFERA_ONNXRUNTIME_LIBRARY   ONNX Runtime's library, which is found there already
#   NVIDIA_SMI           NVIDIA's program, where it isn't on the path
#
# Writes to .runtime/gpu-check/ and .runtime/onnxruntime-gpu/ only. Weights are made here; nothing is fetched from a hub.
set -euo pipefail
cd "$(dirname "$0")/.."

provider=cuda
case "${1:-} ${2:-}" in
" ") ;;
"--provider cuda" | "--provider cpu") provider=$2 ;;
*)
    echo "gpu-check: unknown arguments $*: nothing, or --provider cpu" >&2
    exit 2
    ;;
esac

python=${PYTHON:-python3}
work=.runtime/gpu-check
parts=${GPU_CHECK_PARTS:-}
current="0 (arguments)"
# Says at which step the check has stopped, if it has.
ended() {
    [ "$1" -eq 0 ] || echo "gpu-check: stopped at step $current after ${SECONDS} s" >&2
}
trap 'ended $?' EXIT

# Begins a step: step NUMBER NAME
step() {
    current="$1 ($2)"
    printf '\n== gpu-check: step %s of 8: %s (%ss)\n' "$1" "$2" "$SECONDS"
}

# Ends the check with a sentence: refuse SENTENCE
refuse() {
    echo "gpu-check: $1" >&2
    exit 1
}

# Everything that runs on the device, with its libraries where the loader finds them.
on_device() {
    LD_LIBRARY_PATH="$(dirname "$library")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" "$@"
}

step 1 "the machine"
command -v "$python" >/dev/null || refuse "there is no Python: apt-get install python3 python3-venv python3-pip"
if [ -z "${GPU_CHECK_BINARIES:-}" ]; then
    command -v cargo >/dev/null || refuse "there is no cargo: install Rust by rustup, or name a folder of programs as GPU_CHECK_BINARIES"
fi
if [ "$provider" = cuda ]; then
    smi=${NVIDIA_SMI:-nvidia-smi}
    command -v "$smi" >/dev/null ||
        refuse "this machine has no NVIDIA GPU, or no driver for it ($smi is missing): run it on one that has, or try the script with --provider cpu"
    timeout 60 "$smi" --query-gpu=name,driver_version,compute_cap,memory.total --format=csv,noheader ||
        refuse "$smi finds no GPU that works: run it on a machine that has one, or try the script with --provider cpu"
fi

step 2 "ONNX Runtime"
if [ -n "${INFERA_ONNXRUNTIME_LIBRARY:-}" ]; then
    library=$INFERA_ONNXRUNTIME_LIBRARY
    [ -f "$library" ] || refuse "INFERA_ONNXRUNTIME_LIBRARY names $library, which is not there"
elif [ "$provider" = cuda ]; then
    library=$("$python" infra/gpu/parts.py .runtime/onnxruntime-gpu ${parts:+--from "$parts"})
else
    library=$(find .runtime/onnxruntime -name 'libonnxruntime*' 2>/dev/null | head -n 1)
    [ -n "$library" ] || refuse "there is no ONNX Runtime for the CPU: make setup"
fi
library=$(realpath "$library")
echo "gpu-check: $library"

step 3 "the programs"
if [ -n "${GPU_CHECK_BINARIES:-}" ]; then
    infera=$(realpath "$GPU_CHECK_BINARIES")/infera
    check=$(realpath "$GPU_CHECK_BINARIES")/device_check
    for program in "$infera" "$check"; do
        [ -x "$program" ] || refuse "GPU_CHECK_BINARIES has no program $(basename "$program")"
    done
else
    cargo build --release --locked --quiet --package infera
    cargo build --release --locked --quiet --package infera-engine-onnx --example device_check
    infera=${CARGO_TARGET_DIR:-target}/release/infera
    check=${CARGO_TARGET_DIR:-target}/release/examples/device_check
fi

step 4 "the models"
if [ -n "${GPU_CHECK_PYTHON:-}" ]; then
    maker=$GPU_CHECK_PYTHON
else
    maker=.runtime/venv-gpu/bin/python
    if ! cmp -s infra/gpu/requirements-models.txt .runtime/venv-gpu/installed.txt; then
        rm -rf .runtime/venv-gpu
        "$python" -m venv .runtime/venv-gpu || refuse "there is no venv module: apt-get install python3-venv"
        "$maker" -m pip install --quiet --disable-pip-version-check ${parts:+--no-index --find-links "$parts"} \
            --requirement infra/gpu/requirements-models.txt
        cp infra/gpu/requirements-models.txt .runtime/venv-gpu/installed.txt
    fi
fi
[ "$provider" = cuda ] && size=large || size=small
"$maker" infra/gpu/models.py "$work" "$size"

# CPUs have no kernels for bf16.
[ "$provider" = cuda ] && variants=(fp16 bf16) || variants=(fp16)
# Logits of 16 bits, computed in a chunk and in a step: a bound for what no rounding explains. It has not been measured on a GPU.
tolerance=1.0

step 5 "conformance suite"
for variant in "${variants[@]}"; do
    echo "infera-tiny, $variant, one bucket of 16"
    on_device "$check" conformance "$work/infera-tiny" "$variant" "$library" "$provider" 16 "$tolerance"
done

step 6 "self-check of two processes"
for model in infera-tiny random; do
    for variant in "${variants[@]}"; do
        echo "$model, $variant"
        on_device "$check" self-check "$work/$model" "$variant" "$library" "$provider" 16
    done
done
echo "random, ${variants[0]}, several buckets"
on_device "$check" self-check "$work/random" "${variants[0]}" "$library" "$provider" 1,8,32

step 7 "tokens per second at 1, 8 and 32 sequences"
for variant in "${variants[@]}"; do
    echo "random, $variant"
    on_device "$check" speed "$work/random" "$variant" "$library" "$provider" 1,8,32 64
done

step 8 "the whole path"
on_device "$python" infra/gpu/whole_path.py --binary "$infera" --model "$work/infera-tiny" --variant fp16 \
    --library "$library" --device "$provider"

printf '\ngpu-check: every step passed on %s (%ss)\n' "$provider" "$SECONDS"
