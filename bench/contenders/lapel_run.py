"""lapel: `fit`, as train.py calls it, with sampling, augmentation, curves, validation, checkpoints and the bar.

A turn is a whole training, from the first step of its schedule to the last: of its seconds those count that the run's
own clock counts, which stands still while val is embedded and checkpoints are written. What is scored is the last
checkpoint.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch

from contenders.turns import Turns
from lapel.commands.hydra_app import quoted_arguments
from lapel.config.composing import compose
from lapel.config.evaluation import Checkpoint
from lapel.config.train import TrainConfig
from lapel.encoders.embed import embed
from lapel.images.store import open_store
from lapel.runs.checkpoint import open_run
from lapel.runs.folder import SUMMARY_FILE
from lapel.training import fit


def embeddings_of_val(run: Path) -> np.ndarray:
    """float32 `[images, dimensions]`, by the last checkpoint of a run."""
    trained = open_run(str(run), Checkpoint.last)
    catalog = trained.load_catalog()
    store = open_store(catalog, trained.config.data, torch.device("cpu"))
    return embed(trained.encoder(), store, catalog.rows("val")).numpy()


def main() -> None:
    """Take part; arguments are the folder of the data, and overrides of train.py."""
    turns = Turns.of_this_process()
    folder, overrides = Path(sys.argv[1]), sys.argv[2:]
    config: TrainConfig = compose("train", quoted_arguments([*overrides, f"data.root={folder}"], "train"))
    run = Path.cwd() / "run"
    turns.ready(lambda: embeddings_of_val(run), config.variant.metric.name)
    while True:
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir()
        fit(config, run)
        summary = json.loads((run / SUMMARY_FILE).read_text())
        seconds = summary["training_seconds"]
        turns.answer(summary["images"], seconds, ended=True, aside=summary["seconds"] - seconds)
        turns.wait()


if __name__ == "__main__":
    main()
