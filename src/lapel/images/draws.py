"""Random numbers that are a function of where they are used: no generator is kept, none is seeded, nothing is copied.

They are made where they are needed, on a GPU as on a CPU to the same bits, by arithmetic alone: that can be compiled,
and captured in a graph, with the step as a number on the device.
"""

import numpy as np
import torch
from torch import Tensor

# SplitMix64 (Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), whose numbers are a
# mix of the multiples of one odd number; factors of the mix as in Vigna's public-domain code.
GAMMA = 0x9E3779B97F4A7C15
MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
LAST_SHIFT = 31

# Of 64 mixed bits the highest 24, as many as a float32 between 0 and 1 tells apart.
BITS = 24

# Multiples that one step may use: images of a batch times numbers of an image.
STEP = 1 << 36


def uniform(key: int, step: int | Tensor, positions: Tensor, count: int) -> Tensor:
    """float32 `[images, count]`, each from 0 (inclusive) to 1 (exclusive).

    Args:
        key: 64 bits, as from `key_of`.
        step: of the training; a number, or an int64 `[]` on the device.
        positions: int64 `[images]` in the global batch, on the device that is to have the numbers.
        count: numbers of an image; fewer than 2^20 images have room.
    """
    numbers = torch.arange(count, device=positions.device)
    at = step * STEP + (positions[:, None] << 16) + numbers
    mixed = at * _signed(GAMMA) + _signed(key)
    for shift, factor in MIX:
        mixed = (mixed ^ _shifted(mixed, shift)) * _signed(factor)
    mixed = mixed ^ _shifted(mixed, LAST_SHIFT)
    return _shifted(mixed, 64 - BITS).float() * 2.0**-BITS


def key_of(*numbers: int) -> int:
    """64 bits that stand for a seed and what it is used for."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def _signed(number: int) -> int:
    """A number of 64 bits as int64 has it, whose products and sums are the same bits."""
    return (number & 0xFFFFFFFFFFFFFFFF) - ((number & (1 << 63)) << 1)


def _shifted(numbers: Tensor, by: int) -> Tensor:
    """int64 moved to the right, with zeros coming in."""
    return (numbers >> by) & ((1 << (64 - by)) - 1)
