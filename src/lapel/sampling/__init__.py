"""Which images meet in a batch: pairs, triplets or whole batches, seeded, sharded over processes, and resumable."""

import numpy as np

from lapel.catalog import Catalog
from lapel.config.choices import build as build_choice
from lapel.config.choices import kind_of
from lapel.config.sampler import PairsConfig, SamplerConfig, TripletsConfig
from lapel.errors import LapelError
from lapel.sampling.batches import WHOLE, Batch, Division, Labels, Sampler, share

__all__ = ["WHOLE", "Batch", "Division", "Labels", "Sampler", "build", "share"]


def build(
    config: SamplerConfig, catalog: Catalog, split: str, batch_size: int, seed: int, division: Division = WHOLE
) -> Sampler:
    """The sampler of a config over one split of a catalogue.

    Raises:
        LapelError: the split cannot give what the sampler asks for.
    """
    rows = catalog.rows(split)
    labels = Labels(rows, catalog.linked_items[rows], catalog.categories[rows], _domains(config, catalog, rows))
    return build_choice(
        kind_of(config), config=config, labels=labels, batch_size=batch_size, seed=seed, division=division
    )


def _domains(config: SamplerConfig, catalog: Catalog, rows: np.ndarray) -> np.ndarray | None:
    """Codes of the column that the images of a pair shall differ in."""
    if not isinstance(config, PairsConfig | TripletsConfig) or config.across is None:
        return None
    if config.across not in catalog.table:
        raise LapelError(
            f"sampler.across={config.across}: no such column; there are {', '.join(catalog.table.columns)}"
        )
    values, codes = np.unique(catalog.table[config.across].astype(str).to_numpy()[rows], return_inverse=True)
    if len(values) < 2:
        raise LapelError(f"sampler.across={config.across}: is {values[0]} for every training image, must differ")
    return codes.astype(np.int64)
