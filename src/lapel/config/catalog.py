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
    usage: ClassVar[str] = "prepare|check|audit [data=name] [key=value …]"
    subjects: ClassVar[dict[str, str]] = {
        "prepare": "decodes a data set once, or says where to get it",
        "check": "reports what it holds, with a contact sheet",
        "audit": "looks for duplicates, and for items on both sides of a split",
    }
    examples: ClassVar[tuple[tuple[str, str], ...]] = (
        ("check data=folder data.root=photos", "photos/ITEM/1.jpg, …"),
        ("check data=table data.table=photos.csv data.item=sku", "as the file lists them"),
        ("prepare data=deepfashion_inshop", "or where to get it"),
        ("audit data=fashion_product out=reports/leaks", "duplicates"),
    )
    flags: ClassVar[dict[str, str]] = {}
    often: ClassVar[tuple[str, ...]] = (
        "data.root",
        "data.size",
        "data.item",
        "data.category",
        "data.where",
        "data.split",
        "data.val_share",
        "data.test_share",
        "data.table",
        "data.image",
        "data.suffix",
        "out",
        "bits",
        "difference",
    )
    then: ClassVar[str] = "Then: python train.py with the same data options."

    data: DataConfig = MISSING
    """The data set, with options as data.root=FOLDER, data.size=80x60 (docs/data.md)."""
    out: str | None = option(None, free_text=True)
    """Folder of what check and audit find, by default reports/NAME."""
    bits: int = option(6, at_least=0, at_most=31)
    """Bits in which hashes of near duplicates may differ, of 64 (audit)."""
    difference: float = option(8.0, at_least=0, at_most=255)
    """Grey levels by which they may differ, root mean square over the foreground (audit)."""
