"""TensorBoard's embedding projector: for each image a point, a name and a thumbnail."""

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lapel.files.writing import together

# By which TensorBoard finds what the projector shows; it lies with the event files.
PROJECTOR = "projector_config.pbtxt"

# TensorBoard's projector itself looks at no more dimensions than these.
MOST_DIMENSIONS = 200

# Side of a thumbnail, all of which stand in one picture, a sprite, that may have 8192 pixels a side.
THUMBNAIL = 32

CONFIG = """embeddings {{
  tensor_name: "{name}"
  tensor_path: "{folder}/tensors.tsv"
  metadata_path: "{folder}/metadata.tsv"
  sprite {{
    image_path: "{folder}/sprite.png"
    single_image_dim: {side}
    single_image_dim: {side}
  }}
}}
"""


def project(
    run: Path, folder: str, name: str, embeddings: Tensor, names: list[tuple[str, str]], pixels: Tensor
) -> None:
    """Write what the projector shows, in the place of what was there.

    Args:
        run: folder of the event files.
        folder: of the projector's own files, below it.
        name: under which they are shown.
        embeddings: `[images, dimensions]`, on the CPU.
        names: item and category of each image, of printable characters.
        pixels: uint8 `[images, 1 or 3, THUMBNAIL, THUMBNAIL]`.
    """
    points = few_dimensions(embeddings).tolist()
    with together(run, PROJECTOR) as staged:
        staged.file(f"{folder}/tensors.tsv").write_text(_table(points))
        staged.file(f"{folder}/metadata.tsv").write_text(_table([("item", "category"), *names]))
        sprite(pixels).save(staged.file(f"{folder}/sprite.png"), format="PNG")
        staged.file(PROJECTOR).write_text(CONFIG.format(name=name, folder=folder, side=THUMBNAIL))


def _table(rows: list[tuple[str, str]] | list[list[float]]) -> str:
    return "".join("\t".join(map(str, row)) + "\n" for row in rows)


def sprite(pixels: Tensor) -> Image.Image:
    """Thumbnails `[images, 1 or 3, side, side]` row by row in one square picture."""
    side = math.ceil(math.sqrt(len(pixels)))
    height, width = pixels.shape[2:]
    whole = np.zeros((side * side, height, width, 3), np.uint8)
    whole[: len(pixels)] = pixels.permute(0, 2, 3, 1).numpy()
    rows = whole.reshape(side, side, height, width, 3).swapaxes(1, 2)
    return Image.fromarray(rows.reshape(side * height, side * width, 3))


def few_dimensions(embeddings: Tensor) -> Tensor:
    """Embeddings `[images, dimensions]` in at most `MOST_DIMENSIONS`: their first principal components."""
    if embeddings.shape[1] <= MOST_DIMENSIONS:
        return embeddings
    centred = embeddings - embeddings.mean(0)
    return centred @ torch.linalg.svd(centred, full_matrices=False).Vh[:MOST_DIMENSIONS].T
