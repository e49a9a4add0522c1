"""What leaks between splits: images that are the same, exactly or nearly, and items that stand on both sides.

Near duplicates are looked for by a perceptual hash (64 signs of the lowest frequencies of the grey picture's cosine
transform, as in Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010), and confirmed on
pixels: a hash alone takes two plain shirts for one.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from rich.table import Table

from lapel.catalog import Catalog, linked
from lapel.config.catalog import CatalogConfig
from lapel.config.data import Resize
from lapel.errors import counted
from lapel.files.tables import csv_text
from lapel.files.writing import written_whole
from lapel.inspection.pixels import PixelReader
from lapel.machine.console import plain_table, show, show_whole, tracked
from lapel.photos.decoding import fit
from lapel.pictures.sheets import contact_sheet

# Side of the grey picture that is transformed, and of the corner of low frequencies that is kept.
TRANSFORMED = 32
KEPT = 8

# Side of the pictures that are compared, in colour.
COMPARED = 32

# Grey levels by which a pixel of the background may differ from the corners.
BACKGROUND = 16

# Rows of hashes compared with all others at once, and pairs whose pixels are.
TILE = 512

# Groups shown on the contact sheet, and images of one.
SHOWN_GROUPS = 20
SHOWN_IMAGES = 12


@dataclass(frozen=True)
class Duplicates:
    """Images that are the same, in groups.

    Args:
        table: a row an image of a group: group, kind (exact, near), row, image, split, role, item, category, difference
            (from the group's first image: root mean square over the foreground, in grey levels).
        groups: number of groups.
        across: those of them that stand in more than one split.
        disagreeing: those of them whose images are of different items.
    """

    table: pd.DataFrame
    groups: int
    across: int
    disagreeing: int


@dataclass(frozen=True)
class SmallPictures:
    """Every image of a catalogue, small.

    Args:
        pixels: uint8 `[rows, COMPARED, COMPARED, channels]`.
    """

    pixels: np.ndarray

    @cached_property
    def foreground(self) -> np.ndarray:
        """bool `[rows, COMPARED, COMPARED]`: pixels unlike the mean colour of the corners."""
        shown = np.empty(self.pixels.shape[:3], bool)
        for start in range(0, len(shown), TILE):
            pixels = self.pixels[start : start + TILE].astype(np.float32)
            corners = pixels[:, [0, 0, -1, -1], [0, -1, 0, -1]].mean(axis=1)
            shown[start : start + TILE] = np.abs(pixels - corners[:, None, None]).max(axis=3) > BACKGROUND
        return shown

    def differences(self, pairs: np.ndarray) -> np.ndarray:
        """float64 `[pairs]`: root mean square of the differences, over the pixels that are no plain background in both.

        Over all pixels, two rings on white paper would differ by little, whatever they look like.
        """
        found = np.empty(len(pairs))
        for start in range(0, len(pairs), TILE):
            one, other = pairs[start : start + TILE].T
            apart = self.pixels[one].astype(np.float32) - self.pixels[other]
            squares = np.einsum("pijc,pijc->pij", apart, apart)
            shown = self.foreground[one] | self.foreground[other]
            total = np.einsum("pij,pij->p", squares, shown, dtype=np.float64)
            found[start : start + TILE] = total / (apart.shape[3] * np.maximum(shown.sum(axis=(1, 2)), 1))
        return np.sqrt(found)


def audit(config: CatalogConfig, catalog: Catalog, folder: Path) -> None:
    """Print what leaks, and write `duplicates.csv` and `duplicates.png`.

    Args:
        config: of the command.
        catalog: what is audited.
        folder: where the files go.
    """
    reader = PixelReader(catalog, config.data)
    pictures = compared(catalog, reader)
    pairs = duplicate_pairs(pictures, config.bits, config.difference)
    found = {kind: group(catalog, pictures, pairs, kind) for kind in ("exact", "near")}
    show(f"{catalog.name}: {counted(len(catalog), 'image')}", _summary(found), _straddling(catalog))
    table = pd.concat([each.table for each in found.values()], ignore_index=True)
    with written_whole(folder / "duplicates.csv") as temporary:
        temporary.write_text(csv_text(table), encoding="utf-8", newline="")
    show_whole(f"every group: {folder / 'duplicates.csv'}")
    if len(table):
        with written_whole(folder / "duplicates.png") as temporary:
            _sheet(table, reader).save(temporary, format="PNG")
        show_whole(f"contact sheet: {folder / 'duplicates.png'}")


# -------------------------------------------------------------------------------------------------- finding


def compared(catalog: Catalog, reader: PixelReader) -> SmallPictures:
    """Every image of a catalogue, small."""
    small = np.empty((len(catalog), COMPARED, COMPARED, reader.channels), np.uint8)
    for start in tracked(range(0, len(catalog), TILE), "reading"):
        chunk = np.arange(start, min(start + TILE, len(catalog)))
        for row, pixels in zip(chunk, reader.read(chunk), strict=True):
            picture = pixels[0] if reader.channels == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
            small[row] = fit(picture, COMPARED, COMPARED, Resize.squash).reshape(small.shape[1:])
    return SmallPictures(small)


def perceptual_hashes(pixels: np.ndarray) -> np.ndarray:
    """float32 of -1 and 1, `[rows, 64]`: signs of the lowest frequencies around their median, without the mean.

    Args:
        pixels: uint8 `[rows, TRANSFORMED, TRANSFORMED, channels]`.
    """
    luma = np.array([0.299, 0.587, 0.114] if pixels.shape[3] == 3 else [1.0], np.float32)
    basis = _cosine_basis(TRANSFORMED)[: KEPT + 1]
    hashes = np.empty((len(pixels), KEPT * KEPT), np.float32)
    for start in range(0, len(pixels), TILE):
        grey = pixels[start : start + TILE].astype(np.float32) @ luma
        spectrum = np.einsum("ij,rjk,lk->ril", basis, grey, basis, optimize=True).reshape(len(grey), -1)
        low = spectrum[:, 1 : KEPT * KEPT + 1]
        hashes[start : start + TILE] = np.where(low > np.median(low, axis=1, keepdims=True), 1, -1)
    return hashes


def _cosine_basis(size: int) -> np.ndarray:
    """float32 `[size, size]`: the vectors of the cosine transform (DCT-II), lowest frequency first."""
    points = (np.arange(size) + 0.5) * np.pi / size
    return np.cos(np.arange(size)[:, None] * points).astype(np.float32)


def duplicate_pairs(pictures: SmallPictures, bits: int, difference: float) -> np.ndarray:
    """int64 `[pairs, 2]`: rows of images that are the same or nearly so.

    Args:
        pictures: as from `compared`.
        bits: of the 64 of the hashes, that may differ.
        difference: root mean square of the foreground's differences, in grey levels, that may be left.
    """
    hashes = perceptual_hashes(pictures.pixels)
    least = hashes.shape[1] - 2 * bits - 0.5
    found = []
    for start in tracked(range(0, len(hashes), TILE), "comparing"):
        agreement = hashes[start : start + TILE] @ hashes[start:].T
        pairs = np.argwhere(agreement > least) + start
        pairs = pairs[pairs[:, 0] < pairs[:, 1]]
        found.append(pairs[pictures.differences(pairs) <= difference])
    return np.concatenate(found) if found else np.empty((0, 2), np.int64)


# ------------------------------------------------------------------------------------------------- grouping


def group(catalog: Catalog, pictures: SmallPictures, pairs: np.ndarray, kind: str) -> Duplicates:
    """The groups of exact duplicates, or those of near ones that are no exact ones all."""
    identical = exact_codes(catalog)
    links = pairs.tolist() if kind == "near" else []
    order = np.argsort(identical, kind="stable")
    same = identical[order[1:]] == identical[order[:-1]]
    links += np.column_stack([order[:-1][same], order[1:][same]]).tolist()
    heads = linked(len(catalog), links)
    sizes = np.bincount(heads, minlength=len(catalog))
    members = [np.flatnonzero(heads == head) for head in np.flatnonzero(sizes > 1)] if len(links) else []
    if kind == "near":
        members = [rows for rows in members if len(np.unique(identical[rows])) > 1]
    described = catalog.described(np.concatenate(members)) if members else catalog.described(np.array([], np.int64))
    table = pd.DataFrame(
        {
            "group": np.repeat(np.arange(len(members)), [len(rows) for rows in members]),
            "kind": kind,
            "row": np.concatenate(members) if members else np.array([], np.int64),
            **{name: described[name] for name in ("image", "split", "role", "item", "category")},
        }
    )
    first = np.repeat([rows[0] for rows in members], [len(rows) for rows in members]).astype(np.int64)
    table["difference"] = pictures.differences(np.column_stack([first, table["row"]])).round(2) if members else []
    splits, items = catalog.table["split"].to_numpy(), catalog.items
    return Duplicates(
        table,
        groups=len(members),
        across=sum(len(set(splits[rows])) > 1 for rows in members),
        disagreeing=sum(len(set(items[rows])) > 1 for rows in members),
    )


def exact_codes(catalog: Catalog) -> np.ndarray:
    """int64 `[rows]`: equal for images whose pixels are the same, as they are in the source."""
    if catalog.photos is not None:
        marks = catalog.photos.built.fingerprints[catalog.photos.positions]
    else:
        assert catalog.pixels is not None
        numbers = catalog.table["image"].to_numpy()
        marks = catalog.pixels[numbers].reshape(len(numbers), -1)
    flat = np.ascontiguousarray(marks).view(np.dtype((np.void, marks.shape[1]))).reshape(-1)
    return np.unique(flat, return_inverse=True)[1].reshape(-1)


# --------------------------------------------------------------------------------------------------- telling


def _summary(found: dict[str, Duplicates]) -> Table:
    counted = ("groups", "images", "across splits", "of several items")
    summary = plain_table("kind", *counted, title="images that are the same", right=counted)
    for kind, each in found.items():
        numbers = (each.groups, len(each.table), each.across, each.disagreeing)
        summary.add_row(kind, *(f"{number:,}" for number in numbers))
    return summary


def _straddling(catalog: Catalog) -> str:
    """How many items of val and test training sees: none in an open-set split, and all of them in an ordinary one."""
    train = set(catalog.items[(catalog.table["split"] == "train").to_numpy()].tolist())
    lines = []
    for split in ("val", "test"):
        items = set(catalog.items[(catalog.table["split"] == split).to_numpy()].tolist())
        shared = items & train
        names = ", ".join(catalog.item_names[item] for item in sorted(shared)[:5])
        if not items:
            told = "so there is nothing to compare"
        elif not shared:
            told = "none is seen in training: an open-set split"
        elif len(shared) == len(items):
            told = "all are seen in training: an ordinary split"
        else:
            told = f"{len(shared):,} are seen in training ({names}{', …' if len(shared) > 5 else ''})"
        lines.append(f"items of {split}: {len(items):,}, {told}")
    return "\n".join(lines)


def _sheet(table: pd.DataFrame, reader: PixelReader) -> Image.Image:
    """Groups as lines, those across splits and of several items first."""
    groups = [group for _, group in table.groupby(["kind", "group"])]
    groups.sort(key=lambda group: (-len(set(group["split"])), -len(set(group["item"]))))
    lines = []
    for group in groups[:SHOWN_GROUPS]:
        shown = group.head(SHOWN_IMAGES).to_dict("records")
        told = "; ".join(f"{each['image']} ({each['split']}, {each['item']})" for each in shown)
        pictures = reader.read(np.array([each["row"] for each in shown]))
        lines.append((f"{shown[0]['kind']}: {told}"[:160], pictures))
    return contact_sheet(lines)
