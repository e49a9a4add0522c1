"""lapel-export."""

from lapel.commands.hydra_app import hydra_command
from lapel.config.export import ExportConfig


def _export(config: ExportConfig) -> str:
    from lapel.exporting.export import export

    return str(export(config))


main = hydra_command("export", _export, keeps_folders=False)
