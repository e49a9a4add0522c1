"""Every option of lapel: its default, its unit and its allowed range, each kept here and nowhere else.

A dataclass decorated with `choice` is one choice of a Hydra group; the yaml of the same name under `conf/` says only
what differs from it. `lapel.config.composing` makes them from a command line, checked. None of it imports torch, so
that a typing mistake is told at once.

Every module of this package is imported with it: to be found is all that a new choice needs.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
