"""A bundle whose index was exchanged for another of FAISS's: searched rightly, or refused when it is loaded."""

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
import torch
from PIL import Image

import lapel
from lapel.bundle.bundle import Bundle
from lapel.bundle.entries import entry_numbers, vector_of
from lapel.bundle.index import MEASURES, flat_index, write_index
from lapel.config.variant import Metric
from lapel.errors import LapelError


@pytest.fixture
def bundle(trained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_run / "bundle", tmp_path / "shop"))


def vectors_of(folder: Path) -> np.ndarray:
    index = lapel.load(folder).index
    return np.asarray(index.reconstruct_n(0, index.ntotal))


def exchange(folder: Path, index: Any) -> None:
    """Put an index into a bundle as its owner would: with its hash."""
    write_index(index, folder / "index.faiss")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["index.faiss"] = hashlib.sha256((folder / "index.faiss").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def made(kind: str, vectors: np.ndarray, numbers: np.ndarray | None = None, metric: Metric = Metric.cosine) -> Any:
    """An index by FAISS's name for it, which numbers its entries from 0 or as told."""
    index: Any = faiss.index_factory(vectors.shape[1], kind, MEASURES[metric])
    for inverted in filter(None, [faiss.try_extract_index_ivf(index)]):
        inverted.cp.min_points_per_centroid = 1
    index.train(vectors)
    if numbers is None:
        index.add(vectors)
    else:
        index.add_with_ids(vectors, numbers)
    return index


@pytest.mark.parametrize(
    "kind",
    ["Flat", "IVF4,Flat", "IVF4,SQ8", "HNSW8", "IDMap,Flat", "IDMap2,Flat", "IDMap,IVF4,Flat", "RR16,IVF4,Flat"],
)
def test_a_row_is_searched_with_in_every_type_of_index(kind: str, bundle: Path) -> None:
    vectors = vectors_of(bundle)
    exact = lapel.load(bundle).search_row(7, k=5)
    exchange(bundle, made(kind, vectors, np.arange(len(vectors)) if kind.startswith("IDMap") else None))
    opened = lapel.load(bundle)
    for cells in filter(None, [faiss.try_extract_index_ivf(opened.index)]):
        cells.nprobe = cells.nlist
    found = opened.search_row(7, k=5)
    assert 7 not in found["row"].tolist()
    assert found["rank"].tolist() == [1, 2, 3, 4, 5]
    if "SQ" in kind:  # eight bits a number
        np.testing.assert_allclose(found["score"], exact["score"], atol=0.02)
    else:
        assert found["row"].tolist() == exact["row"].tolist()
        np.testing.assert_allclose(found["score"], exact["score"], atol=1e-5)


def test_entries_that_are_numbered_in_another_order_are_the_rows_of_those_numbers(bundle: Path) -> None:
    vectors = vectors_of(bundle)
    before = lapel.load(bundle)
    order = np.random.default_rng(0).permutation(len(vectors))
    for kind in ("IDMap,Flat", "IDMap2,Flat", "IVF1,Flat"):
        exchange(bundle, made(kind, vectors[order], order))
        opened = lapel.load(bundle)
        assert sorted(entry_numbers(opened.index)) == list(range(len(vectors)))
        np.testing.assert_allclose(vector_of(opened.index, 11), vectors[11], atol=1e-6)
        assert opened.search_row(11, k=4)["row"].tolist() == before.search_row(11, k=4)["row"].tolist()
        assert opened.search(vector=vectors[3], k=1)["row"].tolist() == [3]


def test_a_list_that_an_index_does_not_fill_is_shorter(bundle: Path) -> None:
    vectors = vectors_of(bundle)
    index = made("IVF8,Flat", vectors)
    exchange(bundle, index)
    opened, k = lapel.load(bundle), len(vectors)
    found = opened.search(vector=vectors, k=k)
    _, cells = index.quantizer.search(vectors, 1)
    in_cell = np.bincount(cells[:, 0], minlength=8)
    np.testing.assert_array_equal(np.bincount(found["query"]), in_cell[cells[:, 0]])
    assert -1 not in found["row"].tolist()
    assert np.isfinite(found["score"].to_numpy()).all()
    for _, one in found.groupby("query"):
        assert one["rank"].tolist() == list(range(1, len(one) + 1))
        assert one["row"].is_unique
        assert one["item"].tolist() == opened.items["item"].iloc[one["row"]].tolist()
    assert len(opened.search_row(0, k=k)) == in_cell[cells[0, 0]] - 1


def _euclidean(vectors: np.ndarray) -> Any:
    return flat_index(vectors, Metric.euclidean)


def _manhattan(vectors: np.ndarray) -> Any:
    index = faiss.IndexFlat(vectors.shape[1], faiss.METRIC_L1)
    index.add(vectors)  # pyright: ignore[reportCallIssue]
    return index


def _narrow(vectors: np.ndarray) -> Any:
    return flat_index(np.ascontiguousarray(vectors[:, :8]), Metric.cosine)


def _fewer(vectors: np.ndarray) -> Any:
    return flat_index(vectors[:-1], Metric.cosine)


def _own_numbers(vectors: np.ndarray) -> Any:
    return made("IDMap,Flat", vectors, np.arange(len(vectors)) + 5000)


def _own_numbers_in_cells(vectors: np.ndarray) -> Any:
    return made("IVF2,Flat", vectors, np.arange(len(vectors)) + 1)


def _a_number_twice(vectors: np.ndarray) -> Any:
    return made("IDMap2,Flat", vectors, np.maximum(np.arange(len(vectors)), 1))


def _below_zero(vectors: np.ndarray) -> Any:
    return made("IDMap2,Flat", vectors, np.arange(len(vectors)) - 1)


def _not_finite(vectors: np.ndarray) -> Any:
    vectors = vectors.copy()
    vectors[5, 3] = np.nan
    return flat_index(vectors, Metric.cosine)


def _longer(vectors: np.ndarray) -> Any:
    return flat_index(vectors * 3, Metric.cosine)


def _longer_in_cells(vectors: np.ndarray) -> Any:
    return made("IVF2,SQ8", vectors * 3)


def _longer_numbered(vectors: np.ndarray) -> Any:
    return made("IDMap,Flat", vectors * 1.01, np.arange(len(vectors))[::-1].copy())


@pytest.mark.parametrize(
    ("index", "told"),
    [
        (_not_finite, "entry 5 holds what is no finite number"),
        (_longer, "entry 0 has length 3, and the cosine is told of vectors of length 1"),
        (_longer_in_cells, "entry 0 has length 3"),
        (_longer_numbered, "has length 1.01"),
        (_euclidean, "compares as euclidean does, and the manifest's metric is cosine"),
        (_manhattan, "compares as FAISS's metric 2 does"),
        (_narrow, "has 8 dimensions, and the encoder's embeddings have 16"),
        (_fewer, "entries, and items.parquet describes"),
        (_own_numbers, "names entry 5000, must name its"),
        (_own_numbers_in_cells, "entries from 0 on"),
        (_a_number_twice, "names entry 1 more than once"),
        (_below_zero, "names entry -1, must name its"),
    ],
)
def test_an_index_that_does_not_fit_is_refused_when_it_is_loaded(
    index: Callable[[np.ndarray], Any], told: str, bundle: Path
) -> None:
    exchange(bundle, index(vectors_of(bundle)))
    with pytest.raises(LapelError) as error:
        lapel.load(bundle)
    assert str(bundle / "index.faiss") in str(error.value)
    assert told in str(error.value)


def test_an_index_without_vectors_says_that_rows_cannot_be_searched_with(bundle: Path) -> None:
    vectors = vectors_of(bundle)
    repeated = np.repeat(vectors, 20, axis=0)
    index = made("IVF2,PQ4x4fs", repeated)
    with pytest.raises(LapelError, match="keeps no vectors that a row could be searched with"):
        vector_of(index, 0)


# ------------------------------------------------------------------------------------------- calls of a program's


def test_vectors_are_searched_with_as_their_images_are(bundle: Path) -> None:
    opened = lapel.load(bundle)
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 20, 20), dtype=np.uint8)
    by_image = opened.search(images, k=4)
    vectors = opened.embed(images)
    columns = ["query", "rank", "row"]
    for given in (vectors, vectors.tolist(), vectors.astype(np.float64) * 7):
        found = opened.search(vector=given, k=4)
        assert found[columns].equals(by_image[columns])
        np.testing.assert_allclose(found["score"], by_image["score"], atol=1e-6)
    assert opened.search(vector=vectors[1], k=4)["row"].tolist() == by_image["row"].tolist()[4:8]
    tensor = torch.from_numpy(vectors).requires_grad_()
    assert opened.search(vector=tensor, k=4)["row"].tolist() == by_image["row"].tolist()


@pytest.mark.parametrize(
    ("vector", "told"),
    [
        (np.zeros(16), "vector is zero"),
        (np.full(16, np.nan), "not finite"),
        (np.ones(15), "vector is [15]: must be [(queries, )dimensions=16]"),
        (np.ones((0, 16)), "vector is [0, 16]"),
        (np.ones((1, 2, 16)), "vector is [1, 2, 16]"),
        (["a"] * 16, "must be numbers"),
        (["1"] * 16, "must be numbers"),
        ([True] * 16, "must be numbers"),
        ([[1.0] * 16, [1.0] * 3], "must be numbers"),
        (None, "either images or vector"),
    ],
)
def test_what_is_no_vector_is_told(vector: Any, told: str, bundle: Path) -> None:
    with pytest.raises(LapelError) as error:
        lapel.load(bundle).search(vector=vector)
    assert told in str(error.value)


def test_either_images_or_vectors_are_searched_with(bundle: Path) -> None:
    with pytest.raises(LapelError, match="either images or vector"):
        lapel.load(bundle).search(np.zeros((9, 9), np.uint8), vector=np.ones(16))


def test_contents_and_open_files_are_embedded_as_the_files_are(bundle: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (31, 50), dtype=np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    opened, content = lapel.load(bundle), path.read_bytes()
    with path.open("rb") as file:
        given = [path, content, bytearray(content), memoryview(content), io.BytesIO(content), file]
        embeddings = opened.embed(given)
    assert all(np.array_equal(embeddings[0], each) for each in embeddings[1:])
    np.testing.assert_allclose(opened.embed(content), embeddings[:1], atol=1e-6)
    with pytest.raises(LapelError, match=r"bytes \(3\): not a readable image"):
        opened.embed(b"abc")
    with pytest.raises(LapelError, match="open it in binary mode"):
        opened.embed(io.StringIO("abc"))
    with pytest.raises(LapelError, match="int is no image"):
        opened.embed([3])
    with pytest.raises(LapelError, match="no file can have such a name"):
        opened.embed("a\0b.png")
    with pytest.raises(LapelError, match="image of 0x5 pixels"):
        opened.embed(Image.new("RGB", (0, 5)))
    with pytest.raises(LapelError, match="bundle=None: must be the name of a folder"):
        lapel.load(None)  # type: ignore[arg-type]


def test_what_is_shown_of_a_bundle_is_short(bundle: Path) -> None:
    opened = lapel.load(bundle)
    assert repr(opened) == f"<Bundle {bundle}: {len(opened.items)} rows, encoder.ts, 16 dimensions, cosine>"
    assert isinstance(opened, Bundle)


def test_lapel_lists_what_there_is() -> None:
    assert set(lapel.__all__) <= set(dir(lapel))
    assert all(getattr(lapel, name) is not None for name in lapel.__all__)
