"""Parts of a trunk: by their names, and by their depth."""

from torch import nn

from lapel.encoders.trunks.base import Trunk
from lapel.encoders.trunks.libraries import LibraryTrunk
from lapel.errors import LapelError


def frozen_modules(trunk: Trunk, names: list[str]) -> list[nn.Module]:
    """The modules of a trunk that go by these names; `all` for the whole trunk.

    Raises:
        LapelError: there is no module of such a name.
    """
    return [_part(trunk, name, "encoder.frozen") for name in names]


def frozen_except(trunk: Trunk, names: list[str], key: str) -> list[nn.Module | nn.Parameter]:
    """All modules of a trunk but those that go by these names, and the weights of what these are in.

    Args:
        trunk: whose parts they are.
        names: of parts; `all` for the whole trunk.
        key: what messages call the names.

    Raises:
        LapelError: there is no module of such a name, or it has no weights.
    """
    kept = [_part(trunk, name, key) for name in names]
    for name, part in zip(names, kept, strict=True):
        if not any(True for _ in part.parameters()):
            raise LapelError(f"{key}={name}: has no weights that could learn")
    return _without(_inner(trunk), {id(part) for part in kept})


def _without(module: nn.Module, kept: set[int]) -> list[nn.Module | nn.Parameter]:
    """The largest modules in `module` that neither are, nor hold, one that is kept; and weights of those that do."""
    if id(module) in kept:
        return []
    if not any(id(inner) in kept for inner in module.modules()):
        return [module]
    return [*module.parameters(recurse=False), *(each for child in module.children() for each in _without(child, kept))]


def _inner(trunk: Trunk) -> nn.Module:
    """What has the names that its library gave."""
    return trunk.model if isinstance(trunk, LibraryTrunk) else trunk


def _part(trunk: Trunk, name: str, key: str) -> nn.Module:
    inner = _inner(trunk)
    known = {"all": inner, **{each: module for each, module in inner.named_modules() if each}}
    if name not in known:
        first = [each for each in known if "." not in each]
        raise LapelError(f"{key}={name}: the trunk has no such part; it has {', '.join(first)}")
    return known[name]


def layers(trunk: Trunk) -> list[list[nn.Parameter]]:
    """A trunk's weights by depth, from its input to its output.

    timm says how its models divide; others divide at their children, and at those of their sequences.
    """
    inner = _inner(trunk)
    if hasattr(inner, "group_matcher"):
        from timm.models import group_parameters

        named = dict(inner.named_parameters())
        groups = group_parameters(inner, inner.group_matcher(coarse=False))  # type: ignore[operator]
        return [[named[name] for name in groups[depth]] for depth in sorted(groups)]
    children = [
        grandchild
        for child in inner.children()
        for grandchild in (child.children() if isinstance(child, nn.Sequential) else [child])
    ]
    return [found for found in ([*child.parameters()] for child in children) if found]


def recompute_blocks(trunk: Trunk) -> None:
    """Hold no activations inside the trunk's blocks: compute them again when the gradient needs them.

    Raises:
        LapelError: the trunk cannot.
    """
    inner = _inner(trunk)
    if not hasattr(inner, "set_grad_checkpointing"):
        raise LapelError("trainer.recompute: this trunk cannot; timm's can, and trainer.chunk bounds the memory of any")
    try:
        inner.set_grad_checkpointing(enable=True)  # type: ignore[operator]
    except AssertionError as error:
        raise LapelError(
            "trainer.recompute: this model of timm cannot; trainer.chunk bounds the memory of any"
        ) from error
