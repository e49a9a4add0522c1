"""The entries of a FAISS index: which numbers they bear, and their vectors."""

from typing import Any

import numpy as np

from lapel.errors import LapelError

# Entries of an index of codes whose vectors are looked at when it is loaded, and vectors that are looked at at once.
LOOKED_AT, AT_ONCE = 256, 2**16

# How far lengths may be from 1: of vectors that are kept as they are, and of those that codes stand for.
FLOAT_TOLERANCE, CODE_TOLERANCE = 1e-3, 0.75


def entry_numbers(index: Any) -> np.ndarray:
    """int64 `[entries]`: the numbers by which an index names its entries, in the order in which it keeps them.

    Most count them from 0; an inverted file and what maps numbers of one's own keep them.
    """
    import faiss

    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexIDMap | faiss.IndexIDMap2):
        return faiss.vector_to_array(index.id_map)[entry_numbers(index.index)]
    if isinstance(index, faiss.IndexPreTransform):
        return entry_numbers(index.index)
    if isinstance(index, faiss.IndexRefine):
        return entry_numbers(index.base_index)
    if isinstance(index, faiss.IndexIVF):
        return _numbers_in_cells(index.invlists)
    return np.arange(index.ntotal)


def _numbers_in_cells(cells: Any) -> np.ndarray:
    """int64: the numbers that an inverted file keeps, cell by cell."""
    import faiss

    kept = [np.empty(0, np.int64)]
    for cell in range(cells.nlist):
        if size := cells.list_size(cell):
            numbers = cells.get_ids(cell)
            kept.append(faiss.rev_swig_ptr(numbers, size).astype(np.int64))
            cells.release_ids(cell, numbers)
    return np.concatenate(kept)


def check_numbers(index: Any, file: str) -> None:
    """Raise unless the entries are numbered as the rows that they stand for: from 0 on, each number once.

    Args:
        index: FAISS's.
        file: what messages call it.
    """
    numbers = entry_numbers(index)
    if len(numbers) and (numbers.min() < 0 or numbers.max() >= len(numbers)):
        odd = numbers[(numbers < 0) | (numbers >= len(numbers))][0]
        raise LapelError(f"{file}: names entry {odd}, must name its {len(numbers)} entries from 0 on")
    counts = np.bincount(numbers, minlength=len(numbers))
    if (counts > 1).any():
        raise LapelError(f"{file}: names entry {counts.argmax()} more than once")


def vector_of(index: Any, number: int) -> np.ndarray:
    """float32 `[dimensions]`: an entry's vector; of an index that keeps codes, what they stand for.

    Raises:
        LapelError: the index keeps nothing that it could be made of.
    """
    import faiss

    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexIDMap) and not isinstance(index, faiss.IndexIDMap2):
        (where,) = np.flatnonzero(faiss.vector_to_array(index.id_map) == number)
        return vector_of(index.index, int(where))
    try:
        _know_cells(index)
        return np.asarray(index.reconstruct(number))
    except RuntimeError as error:
        raise LapelError(
            f"{type(index).__name__}: keeps no vectors that a row could be searched with; search with its photo"
        ) from error


def check_vectors(index: Any, unit: bool, file: str) -> None:
    """Raise where a vector holds what is no number or, among unit vectors, has another length; zeros have none.

    All vectors of a flat index are looked at, and of others some, evenly spread: what codes stand for has its length
    roughly.

    Args:
        index: FAISS's.
        unit: whether they must be of length 1.
        file: what messages call it.
    """
    flat = _flat(index)
    if flat is not None:
        numbers, vectors, tolerance = np.arange(index.ntotal), _kept_vectors(flat), FLOAT_TOLERANCE
    else:
        numbers = np.unique(np.linspace(0, index.ntotal - 1, min(index.ntotal, LOOKED_AT)).astype(np.int64))
        try:
            vectors, tolerance = np.array([vector_of(index, int(number)) for number in numbers]), CODE_TOLERANCE
        except LapelError:  # it keeps none
            return
    for start in range(0, len(numbers), AT_ONCE):
        lengths = np.linalg.norm(vectors[start : start + AT_ONCE], axis=1)
        if len(odd := np.flatnonzero(~np.isfinite(lengths))):
            raise LapelError(f"{file}: entry {numbers[start + odd[0]]} holds what is no finite number")
        if unit and len(odd := np.flatnonzero((lengths > 0) & (np.abs(lengths - 1) > tolerance))):
            raise LapelError(
                f"{file}: entry {numbers[start + odd[0]]} has length {lengths[odd[0]]:.4g}, and the cosine is told of "
                "vectors of length 1"
            )


def _flat(index: Any) -> Any:
    """The flat index that an index is, below numbers of its own; None where it is another."""
    import faiss

    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexIDMap | faiss.IndexIDMap2):
        return _flat(index.index)
    return index if isinstance(index, faiss.IndexFlat) else None


def _kept_vectors(flat: Any) -> np.ndarray:
    """float32 `[entries, dimensions]`: those of a flat index themselves, and no copy."""
    import faiss

    if not flat.ntotal:
        return np.empty((0, flat.d), np.float32)
    return faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d).reshape(flat.ntotal, flat.d)


def _know_cells(index: Any) -> None:
    """Have an inverted file, wherever it stands in an index, know in which cell each of its entries lies.

    Raises:
        RuntimeError: FAISS cannot say what its codes stand for.
    """
    import faiss

    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform | faiss.IndexIDMap2):
        _know_cells(index.index)
    elif isinstance(index, faiss.IndexIVFFastScan):
        raise RuntimeError("its codes lie in blocks")  # FAISS 1.15 ends the process over it
    elif isinstance(index, faiss.IndexIVF) and index.direct_map.no():
        index.make_direct_map()
