"""What `lapel-search` is told."""

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from lapel.config.choices import choice
from lapel.config.commands import CommandConfig
from lapel.config.options import option
from lapel.errors import LapelError


class TableFormat(Enum):
    """How search results are printed."""

    table = "table"
    json = "json"
    csv = "csv"
    html = "html"
    png = "png"


# What is no text but pictures.
PICTURES = (TableFormat.html, TableFormat.png)


@choice("command", "search", build="lapel.commands.search:main")
@dataclass
class SearchConfig(CommandConfig):
    """Looks up the look-alikes of one image in a bundle."""

    program: ClassVar[str] = "lapel-search"
    examples: ClassVar[tuple[tuple[str, str], ...]] = (
        ('image="my photo (1).png"', "in the newest run's bundle"),
        ("bundle=runs/NAME/bundle row=0 k=20", "look-alikes of what is in it already"),
        ("image=photo.jpg format=html out=found.html", "as pictures, in one page"),
        ("image=photo.jpg format=json", "for a program: row, score, item, …"),
    )

    bundle: str = option("latest/bundle", free_text=True)
    """Bundle folder."""
    image: str | None = option(None, free_text=True)
    """Image file to search with."""
    row: int | None = option(None, at_least=0)
    """Row of the bundle to search with, itself left out."""
    k: int = option(10, at_least=1)
    """Look-alikes to show."""
    format: TableFormat = TableFormat.table
    """How they are shown; html and png: as pictures, in a file."""
    out: str | None = option(None, free_text=True)
    """File of the pictures; by default finds.html or finds.png."""
    root: str | None = option(None, free_text=True)
    """Folder of the photos that are shown; by default where the model was trained on them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.image is None) == (self.row is None):
            raise LapelError("give either image=FILE or row=N")
        if self.image == "":
            raise LapelError("image=: must name a file")
        for name in ("out", "root"):
            if getattr(self, name) is not None and self.format not in PICTURES:
                formats = ", ".join(each.name for each in PICTURES)
                raise LapelError(f"{name}={getattr(self, name)}: is for pictures, with format={formats}")
        if self.out == "":
            raise LapelError("out=: must name a file")
        if self.out is not None and not self.out.lower().endswith(f".{self.format.name}"):
            raise LapelError(f"out={self.out}: must end in .{self.format.name}, as format={self.format.name}")
