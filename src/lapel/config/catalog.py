"""What `lapel-data` is told."""

from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from lapel.config.choices import choice
from lapel.config.commands import CommandConfig
from lapel.config.data import DataConfig
from lapel.config.options import option


@choice("command", "catalog", build="lapel.commands.data:main")
@dataclass
class CatalogConfig(CommandConfig):
    """Looks at a data set: gets it ready, reports what it holds, or what leaks between its splits."""

    program: ClassVar[str] = "lapel-data"
    composed: ClassVar[bool] = True

    data: DataConfig = MISSING
    """The data set, with options as data.root=FOLDER, data.size=80x60 (docs/data.md)."""
    out: str | None = option(None, free_text=True)
    """check, audit: where pictures and tables go, by default reports/NAME."""
    bits: int = option(6, at_least=0, at_most=31)
    """audit: bits of 64 in which the perceptual hashes of near duplicates may differ."""
    difference: float = option(8.0, at_least=0, at_most=255)
    """audit: grey levels, root mean square over the foreground, by which near duplicates may differ."""
