"""What TensorBoard shows besides curves: distances, queries with their matches, the embeddings, the config."""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from lapel.config.composing import flat, how_keys, to_plain
from lapel.config.train import TrainConfig
from lapel.losses import root, same_label, squared_distances
from lapel.machine.console import printable
from lapel.pictures.examples import examples, spread
from lapel.retrieval import Scores
from lapel.training.module import SimilarityModule

# Val images, at most, whose distances and whose places are shown.
MOST_DISTANCES = 1000
MOST_PROJECTED = 2000

# TensorBoard's projector itself looks at no more dimensions than these.
MOST_DIMENSIONS = 200

# Side of a thumbnail in the projector, whose sprite may have 8192 pixels a side.
THUMBNAIL = 32


class Pictures:
    """Draws, for the first process, after each validation.

    Args:
        logger: whose event files they go to.
        every: epochs between two galleries.
    """

    def __init__(self, logger: TensorBoardLogger, every: int) -> None:
        self.logger = logger
        self.every = every

    @property
    def writer(self) -> SummaryWriter:
        """Of the event file."""
        return self.logger.experiment

    def begin(self, config: TrainConfig) -> None:
        """Show the config of a new run."""
        text = OmegaConf.to_yaml(OmegaConf.create(to_plain(config)))
        self.writer.add_text("config", "\n".join(f"    {line}" for line in text.splitlines()), 0)

    def after_validation(
        self,
        module: SimilarityModule,
        scores: Scores,
        found: tuple[Tensor, Tensor],
        epochs: int,
        final: dict[str, float] | None,
    ) -> None:
        """Scores and distances after each epoch, a gallery every few, and everything that belongs to the end there.

        Args:
            module: that was validated.
            scores: of the val part.
            found: embeddings of its queries and of its gallery.
            epochs: validations so far.
            final: scores of the checkpoint that is kept as the best, once training is over.
        """
        catalog, step = module.catalog, module.steps_done
        queries, gallery = catalog.queries("val"), catalog.gallery("val")
        for name, value in scores.means().items():
            self.writer.add_scalar(f"val/{name}", value, step)
        self._distances(found[1], torch.from_numpy(catalog.linked_items[gallery]), step)
        if final is not None or epochs % self.every == 0:
            shown = spread(scores.queries)
            sheet = examples(catalog, module.store, queries, gallery, scores.neighbors.positions, shown)
            self.writer.add_image("val/matches", np.asarray(sheet), step, dataformats="HWC")
        if final is not None:
            self._project(module, gallery, found[1])
            self._final_scores(module.config, final, step)

    def _distances(self, embeddings: Tensor, items: Tensor, step: int) -> None:
        """Histograms of the distances of positive and of negative pairs, among some images evenly over all."""
        chosen = _some(len(items), MOST_DISTANCES)
        distances = root(squared_distances(embeddings[chosen].float())).cpu()
        for name, mask in zip(("positive", "negative"), same_label(items[chosen]), strict=True):
            if mask.any():
                self.writer.add_histogram(f"distance/val_{name}", distances[mask].numpy(), step)

    def _project(self, module: SimilarityModule, gallery: np.ndarray, embeddings: Tensor) -> None:
        """The embedding projector: a place, a name and a thumbnail for each image."""
        chosen = _some(len(gallery), MOST_PROJECTED)
        catalog, rows = module.catalog, gallery[chosen]
        pixels = module.store.gather(rows).cpu().float() / 255
        thumbnails = F.interpolate(pixels, [THUMBNAIL, THUMBNAIL], mode="bilinear", antialias=True)
        names = [
            [printable(catalog.item_names[item]), printable(catalog.category_names[category])]
            for item, category in zip(catalog.items[rows], catalog.categories[rows], strict=True)
        ]
        shutil.rmtree(Path(self.writer.log_dir) / f"{module.steps_done:05}" / "val", ignore_errors=True)  # of before
        self.writer.add_embedding(
            few_dimensions(embeddings[chosen].cpu()),
            metadata=names,
            label_img=thumbnails.expand(-1, 3, -1, -1),
            global_step=module.steps_done,
            tag="val",
            metadata_header=["item", "category"],
        )

    def _final_scores(self, config: TrainConfig, final: dict[str, float], step: int) -> None:
        """HParams: whatever may be chosen, and what came of it."""
        scores = {f"final/{name}": value for name, value in final.items()}
        for summary in hparams(chosen_options(config), dict.fromkeys(scores, None)):  # type: ignore[arg-type]
            self.writer._get_file_writer().add_summary(summary)  # add_hparams would make a run of its own
        for name, value in scores.items():
            self.writer.add_scalar(name, value, step)


def chosen_options(config: TrainConfig) -> dict[str, bool | int | float | str]:
    """Every option of a run by its key on the command line, but those that only say how it is computed.

    A choice stands under the name of its group, as `optim`; what is none or a list is a text.
    """
    told: dict[str, bool | int | float | str] = {}
    for key, value in flat(to_plain(config)).items():
        if key in how_keys():
            continue
        if key.endswith(".kind"):
            told[key.removesuffix(".kind")] = value.partition("/")[2]
        elif isinstance(value, bool | int | float | str):
            told[key] = value
        else:
            told[key] = "none" if value is None else json.dumps(value)
    return told


def few_dimensions(embeddings: Tensor) -> Tensor:
    """Embeddings `[images, dimensions]` in at most `MOST_DIMENSIONS`: their first principal components."""
    if embeddings.shape[1] <= MOST_DIMENSIONS:
        return embeddings
    centred = embeddings - embeddings.mean(0)
    return centred @ torch.linalg.svd(centred, full_matrices=False).Vh[:MOST_DIMENSIONS].T


def _some(count: int, most: int) -> np.ndarray:
    """Positions, at most so many, evenly over all."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
