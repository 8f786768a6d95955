"""What `infra/gpu_check.sh` needs: the GPU build of ONNX Runtime, models in 16 bits, and the whole path on a device."""
