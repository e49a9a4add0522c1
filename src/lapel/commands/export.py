"""lapel-export."""

from typing import TYPE_CHECKING

from lapel.commands.asked import helped
from lapel.commands.starting import ended_at_once, say_at_once

if TYPE_CHECKING:
    from lapel.config.export import ExportConfig


def _export(config: "ExportConfig") -> str:
    from lapel.commands.terminal import say_next
    from lapel.exporting.export import export

    folder = export(config)
    say_next(f"lapel-search bundle={folder} image=FILE")
    return str(folder)


def _check_named(config: "ExportConfig") -> None:
    from lapel.files.named import check_data_root
    from lapel.files.paths import run_folder

    run_folder("run", config.run)
    check_data_root(config.data.root)


def main() -> None:
    """`lapel-export`."""
    with ended_at_once("lapel-export"):
        if helped("export"):
            return
        say_at_once("lapel-export: getting ready: options, torch, data")
        from lapel.commands.hydra_app import ComposedCommand, run_composed
    run_composed(ComposedCommand("export", _export, "lapel.exporting.export", _check_named))
