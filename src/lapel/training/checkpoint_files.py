"""How Lightning writes checkpoints here: whole, or not at all."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from lapel.files.writing import opened, written_whole


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, written under a temporary name in its own folder, then renamed.

    Lightning's own writer stages the file in the system's temporary folder: across file systems it ends in a copy.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint; a process killed meanwhile leaves the old file."""
        del storage_options  # of remote file systems
        with written_whole(Path(path)) as temporary, opened(temporary) as file:
            torch.save(checkpoint, file)
