"""Writes blocks of weights with integer zero points, as ONNX Runtime's fast kernels take them.

The GGUF's own form, a step and a fractional minimum per block, would be exact with fractional zero points, for which ONNX
Runtime has only a slow kernel (60 times slower, measured). So matrices are quantised a second time. With 8 bits that costs
1/34 of a step of the original 4-bit grid at most; with 4 bits up to half a step, so the best of several grids is searched.
"""

import numpy as np

from weights import BLOCK

# The grids that are tried with 4 bits, as multiples of the step that just covers the block.
STRETCHES = (0.88, 0.94, 1.0)
# Rows that are quantised at once: the working memory stays within some tens of megabytes.
ROWS_AT_ONCE = 512


def grid(blocks, bits, stretch):
    """Returns steps and zero points of grids that cover each block and zero, shrunk by `stretch`."""
    most = (1 << bits) - 1
    lowest = np.minimum(blocks.min(-1), 0)
    highest = np.maximum(blocks.max(-1), 0)
    steps = (highest - lowest) * np.float32(stretch / most)
    steps[steps == 0] = 1
    zeros = np.clip(np.round(-lowest * np.float32(stretch) / steps), 0, most)
    return steps, zeros


def on_grid(blocks, steps, zeros, bits):
    """Returns the levels of the weights on such grids."""
    levels = np.round(blocks / steps[..., None]) + zeros[..., None]
    return np.clip(levels, 0, (1 << bits) - 1)


def best(blocks, bits):
    """Returns levels, steps and zero points; with 4 bits those of the smallest squared error."""
    found = None
    for stretch in STRETCHES if bits == 4 else (1.0,):
        steps, zeros = grid(blocks, bits, stretch)
        around = (0, -1, 1) if bits == 4 else (0,)
        for shift in around:
            moved = np.clip(zeros + shift, 0, (1 << bits) - 1)
            levels = on_grid(blocks, steps, moved, bits)
            errors = np.square((levels - moved[..., None]) * steps[..., None] - blocks).sum(-1)
            if found is None:
                found = [levels, steps, moved, errors]
                continue
            better = errors < found[3]
            for kept, new in zip(found, (levels, steps, moved, errors)):
                kept[better] = new[better]
    return found[:3]


def quantised(matrix, bits):
    """Returns levels [rows, blocks, BLOCK * bits / 8], steps [rows, blocks] and zero points [rows, blocks * bits / 8]."""
    values = matrix.values()
    blocks = values.reshape(len(values), -1, BLOCK)
    parts = [best(blocks[row : row + ROWS_AT_ONCE], bits) for row in range(0, len(blocks), ROWS_AT_ONCE)]
    levels, steps, zeros = (np.concatenate(part) for part in zip(*parts))
    levels, zeros = levels.astype(np.uint8), zeros.astype(np.uint8)
    if bits == 4:
        levels, zeros = pairs(levels), pairs(zeros)
    return levels, steps.astype(np.float32), zeros


def pairs(levels):
    """Packs two 4-bit numbers in a byte, the first one low."""
    return levels[..., 0::2] | (levels[..., 1::2] << 4)
