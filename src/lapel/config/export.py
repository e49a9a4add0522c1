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
    """Which images the index holds; by default all of your own (data=table, folder), of a benchmark the gallery."""
    invert: Invert = Invert.never
    """Whether the exported encoder turns photos negative before it looks at them."""
    formats: list[str] = option(["torchscript"])
    """In which the encoder is written."""
    index: str = "flat"
    """Type of the index; flat: exact, every entry is compared."""

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

    run: str = option("latest", free_text=True)
    """Run folder; the bundle is its subfolder `bundle`."""
    checkpoint: Checkpoint = Checkpoint.best
    export: ExportOptions = field(default_factory=ExportOptions)
    data: MovedData = field(default_factory=MovedData)
