"""What becomes of memory that is freed. Needs no torch."""

import ctypes
import sys

# glibc's names for mallopt, from malloc.h, and the most that it takes for them: an int, and 32 MB.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
NEVER, LARGEST = 2**31 - 1, 32 * 2**20


def keep_freed_memory() -> bool:
    """From now on keep what is freed for what is needed next; whether the C library can.

    Each step of a training frees the tensors of the one before. glibc gives large blocks back to the system, which
    hands them out again filled with zeros, page by page. Blocks of more than 32 MB it gives back in any case.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library than glibc
        return False
    return bool(mallopt(TRIM_THRESHOLD, NEVER)) and bool(mallopt(MMAP_THRESHOLD, LARGEST))
