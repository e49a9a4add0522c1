"""What TensorBoard shows of a validation: scores, distances, queries with their matches, the embeddings."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lapel.errors import printable
from lapel.losses import root, same_label, squared_distances
from lapel.pictures.examples import examples, spread
from lapel.retrieval import Scores
from lapel.training.callbacks.events import TENSORBOARD, EventFiles
from lapel.training.callbacks.projector import THUMBNAIL, project
from lapel.training.callbacks.tags import BEST, VAL
from lapel.training.module import SimilarityModule

# Val images, at most, whose distances and whose places are shown.
MOST_DISTANCES = 1000
MOST_PROJECTED = 2000


class Pictures:
    """Draws, for the first process, after each validation.

    Args:
        events: to which they go.
        every: epochs between two galleries.
    """

    def __init__(self, events: EventFiles, every: int) -> None:
        self.events = events
        self.every = every

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
        self.events.add_scalars({f"{VAL}/{name}": value for name, value in scores.means().items()}, step)
        self._distances(found[1], torch.from_numpy(catalog.linked_items[gallery]), step)
        if final is not None or epochs % self.every == 0:
            shown = spread(scores.queries)
            sheet = examples(catalog, module.store, queries, gallery, scores.neighbors.positions, shown)
            self.events.writer.add_image("matches/val", np.asarray(sheet), step, dataformats="HWC")
        if final is not None:
            self._project(module, gallery, found[1])
            self._final_scores(final, step)

    def _distances(self, embeddings: Tensor, items: Tensor, step: int) -> None:
        """Histograms of the distances of positive and of negative pairs, among some images evenly over all."""
        chosen = _some(len(items), MOST_DISTANCES)
        distances = root(squared_distances(embeddings[chosen].float())).cpu()
        for name, mask in zip(("positive", "negative"), same_label(items[chosen]), strict=True):
            if mask.any():
                self.events.writer.add_histogram(f"distance/val_{name}", distances[mask].numpy(), step)

    def _project(self, module: SimilarityModule, gallery: np.ndarray, embeddings: Tensor) -> None:
        """Val's images in the projector."""
        chosen = _some(len(gallery), MOST_PROJECTED)
        catalog, rows = module.catalog, gallery[chosen]
        pixels = module.store.gather(rows).cpu()
        thumbnails = F.interpolate(pixels, [THUMBNAIL, THUMBNAIL], mode="bilinear", antialias=True)
        names = [
            (printable(catalog.item_names[item]), printable(catalog.category_names[category]))
            for item, category in zip(catalog.items[rows], catalog.categories[rows], strict=True)
        ]
        project(self.events.folder, f"{TENSORBOARD}/val", "val", embeddings[chosen].cpu(), names, thumbnails)

    def _final_scores(self, final: dict[str, float], step: int) -> None:
        """HParams' scores, without precision@K, which would keep recall@K from the five that it shows."""
        scores = {f"{BEST}/{name}": value for name, value in final.items() if not name.startswith("precision")}
        self.events.add_scalars(scores, step)
        self.events.end()


def _some(count: int, most: int) -> np.ndarray:
    """Positions, at most so many, evenly over all."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
