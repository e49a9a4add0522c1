"""Schemas as Hydra keeps them, each built when it is asked for: to build all of them takes longer than to compose."""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigNode, ConfigStore
from omegaconf import OmegaConf


@dataclass
class Schema(ConfigNode):
    """A dataclass that becomes a config node in the copy that Hydra takes of whatever it loads from its store."""

    def __copy__(self) -> ConfigNode:
        return ConfigNode(self.name, OmegaConf.structured(self.node), self.group, self.package, self.provider)


def store(group: str, name: str, options: type) -> None:
    """Have Hydra know a dataclass as the choice `name` of a group, as `ConfigStore.store` does it.

    Args:
        group: as `"schema/encoder"`.
        name: without `.yaml`.
        options: the dataclass.
    """
    of_hydra = ConfigStore.instance()
    of_hydra.store(group=group, name=name, node={})  # it makes the groups, too
    folder: dict[str, Any] = of_hydra.repo
    for each in group.split("/"):
        folder = folder[each]
    file = f"{name}.yaml"
    folder[file] = Schema(file, options, group, None, None)  # type: ignore[arg-type]
