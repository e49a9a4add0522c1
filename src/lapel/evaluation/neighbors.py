"""The nearest gallery rows of every query, written as they are found: memory does not grow with their number."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lapel.evaluation.protocols import Embedded, Protocol
from lapel.files.writing import Staged
from lapel.machine.console import progress
from lapel.retrieval import NO_POSITION, Neighbors
from lapel.retrieval.exact import nearest_by_tile

NEIGHBORS_FILE = "neighbors.parquet"

# Lines of a row group, at least: what is held until it is written.
GROUP_LINES = 2**17

SCHEMA = pa.schema(
    [("row", pa.int64()), ("rank", pa.int32()), ("neighbor", pa.int64()), ("score", pa.float32())],
)


def exact_lists(protocol: Protocol, embedded: Embedded, k: int) -> Iterator[tuple[np.ndarray, Neighbors]]:
    """Positions of some queries, and their lists of exact search, with positions in the whole gallery.

    Args:
        protocol: queries and gallery.
        embedded: of the queries, and of the gallery.
        k: length of the lists.
    """
    for each in protocol.comparisons():
        for tile, near in nearest_by_tile(embedded.similarities(each), k):
            yield each.mine[tile], each.in_gallery(near)


def write_neighbors(staged: Staged, protocol: Protocol, lists: Iterable[tuple[np.ndarray, Neighbors]]) -> None:
    """Write lists to neighbors.parquet: a line for each query and each gallery row in its list.

    The columns are `row` (the query's, in the catalogue), `rank` (from 1), `neighbor` (the gallery image's row, in the
    catalogue) and `score` (the cosine, or minus the euclidean distance).

    Args:
        staged: the evaluation's files.
        protocol: queries and gallery.
        lists: positions of some queries, and their lists.
    """
    with pq.ParquetWriter(staged.file(NEIGHBORS_FILE), SCHEMA) as writer:
        held: list[pa.Table] = []
        for queries, near in _watched(lists, len(protocol.queries)):
            held.append(_lines(protocol, queries, near))
            if sum(map(len, held)) >= GROUP_LINES:
                writer.write_table(pa.concat_tables(held))
                held.clear()
        if held:
            writer.write_table(pa.concat_tables(held))


def _lines(protocol: Protocol, queries: np.ndarray, near: Neighbors) -> pa.Table:
    places, ranks = np.nonzero(near.positions != NO_POSITION)
    columns = (
        protocol.queries[queries[places]],
        ranks + 1,
        protocol.gallery[near.positions[places, ranks]],
        near.scores[places, ranks],
    )
    return pa.Table.from_arrays(
        [pa.array(each, field.type) for each, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def _watched(lists: Iterable[tuple[np.ndarray, Neighbors]], queries: int) -> Iterator[tuple[np.ndarray, Neighbors]]:
    """The lists, with their progress on a terminal."""
    with progress() as bar:
        task = bar.add_task("nearest neighbours", total=queries)
        for some, near in lists:
            yield some, near
            bar.advance(task, len(some))
