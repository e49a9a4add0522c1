"""lapel: trains, evaluates, exports and serves visual-similarity models for fashion images.

>>> import lapel
>>> config = lapel.compose("train", ["variant=siam", "seed=1"])  # doctest: +SKIP
>>> lapel.train(config)  # doctest: +SKIP
>>> bundle = lapel.load("latest/bundle")  # doctest: +SKIP
>>> bundle.search("photo.png", k=10)  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lapel.bundle.bundle import Bundle, load
    from lapel.config.composing import compose
    from lapel.errors import LapelError
    from lapel.evaluation import evaluate
    from lapel.exporting.export import export
    from lapel.training import train

__all__ = ["Bundle", "LapelError", "compose", "evaluate", "export", "load", "train"]

# Where each public name lives: imported when it is first used, so that `import lapel` is quick and brings no torch.
_HOMES = {
    "Bundle": "lapel.bundle",
    "LapelError": "lapel.errors",
    "compose": "lapel.config.composing",
    "evaluate": "lapel.evaluation",
    "export": "lapel.exporting.export",
    "load": "lapel.bundle",
    "train": "lapel.training",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("lapel")
    if name not in _HOMES:
        raise AttributeError(f"module 'lapel' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
