"""What `lapel-export` is told."""

from dataclasses import dataclass, field
from typing import ClassVar

from lapel.config.choices import choice
from lapel.config.commands import CommandConfig
from lapel.config.data import Invert, MovedData, Rows
from lapel.config.evaluation import Checkpoint
from lapel.config.options import Options, option
from lapel.errors import LapelError


@dataclass
class ExportOptions(Options):
    """What goes into the bundle."""

    rows: Rows | None = None
    """Images that the index holds; by default all of your own (data=table, folder), of a benchmark the gallery."""
    invert: Invert = Invert.never
    """Turn photos negative first: a Fashion-MNIST model knows light garments on black."""
    formats: list[str] = option(["torchscript"])
    """Formats of the encoder: torchscript."""
    index: str = "flat"
    """Type of the index; flat is exact: every entry is compared."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.formats:
            raise LapelError("export.formats=[]: must have at least one name")


@choice("command", "export", build="lapel.commands.export:main")
@dataclass
class ExportConfig(CommandConfig):
    """Writes a run's encoder and index as a bundle, checked against the model it came from."""

    program: ClassVar[str] = "lapel-export"
    composed: ClassVar[bool] = True
    examples: ClassVar[tuple[tuple[str, str], ...]] = (
        ("", "the newest run"),
        ("run=runs/NAME checkpoint=last", "another run, as its training ended"),
        ("export.rows=all", "an index of all images"),
        ("export.invert=white_background", "a Fashion-MNIST model for photos on white"),
    )
    then: ClassVar[str] = "Then: lapel-search bundle=latest/bundle image=photo.jpg"

    run: str = option("latest", free_text=True)
    """Run folder; the bundle is its subfolder `bundle`."""
    checkpoint: Checkpoint = Checkpoint.best
    """Which of the run's checkpoints: that with the highest MAP@R on val, or that of the end of training."""
    export: ExportOptions = field(default_factory=ExportOptions)
    data: MovedData = field(default_factory=MovedData)
