"""The entries of a FAISS index: which numbers they bear, and their vectors."""

from typing import Any

import numpy as np

from lapel.errors import LapelError


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
