"""What tells runs apart, in few words: the options in which they differ, or their folders."""

from itertools import combinations
from pathlib import Path
from typing import Any

from lapel.config.composing import compose, flat, to_plain
from lapel.errors import LapelError

# Options in the name of a run at most: more cannot be read at a glance.
MOST = 3

# Ends of the keys under which configs hold what was chosen for a group, from which its other options follow.
CHOICE = (".kind", "variant.name")


def names_of(configs: list[dict[str, Any]], folders: list[Path]) -> tuple[list[str], list[int]]:
    """A name for each run, and how many more options than those in its name tell it from the first.

    A name is the shortest list of options that tells all runs apart, as `variant=siam`, and what else differs and does
    not follow from those; where it would take more than MOST of them, or there is one run alone, the folder's.

    Args:
        configs: whole key -> value, of each run.
        folders: likewise.
    """
    differing = sorted({key for each in configs for key in each if _differs(key, configs)}, key=_rank)
    left = [[key for key in differing if each.get(key) != configs[0].get(key)] for each in configs]
    chosen = _shortest(differing, configs) if len(configs) > 1 else None
    if chosen is None:
        return _folder_names(folders), [len(each) for each in left]
    others = _but_following(chosen, left, configs)
    more = sorted(set().union(*others), key=_rank)
    if len(chosen) + len(more) <= MOST and all(key in each for key in more for each in configs):
        chosen, others = (*chosen, *more), [[] for _ in configs]
    return [" ".join(_told(key, each[key]) for key in chosen) for each in configs], [len(each) for each in others]


def _but_following(chosen: tuple[str, ...], left: list[list[str]], configs: list[dict[str, Any]]) -> list[list[str]]:
    """Of the options in which each run differs from the first, those that neither are chosen nor follow from them."""
    left = [[key for key in keys if key not in chosen] for keys in left]
    if not any(left) or not any(key.endswith(CHOICE) for key in chosen):
        return left
    expected = [_following(chosen, each) for each in configs]

    def follows(key: str, number: int) -> bool:
        return all(expected[each].get(key) == configs[each].get(key) for each in (0, number))

    return [[key for key in keys if not follows(key, number)] for number, keys in enumerate(left)]


def _following(chosen: tuple[str, ...], config: dict[str, Any]) -> dict[str, Any]:
    """The options of a run in which the chosen ones alone were said; none where they cannot be composed any more."""
    try:
        return flat(to_plain(compose("train", [_told(key, config[key]) for key in chosen])))
    except LapelError:
        return {}


def _differs(key: str, configs: list[dict[str, Any]]) -> bool:
    return any(each.get(key) != configs[0].get(key) for each in configs)


def _rank(key: str) -> tuple[int, bool, str]:
    """What says most of a run first: what was chosen for a part of it, then that part's options."""
    option = _option(key)
    return option.count("."), option == key, option


def _option(key: str) -> str:
    """An option as it is typed: a choice by the name of its group."""
    return "variant" if key == "variant.name" else key.removesuffix(".kind")


def _told(key: str, value: Any) -> str:
    return f"{_option(key)}={str(value).rpartition('/')[2] if key.endswith('.kind') else value}"


def _shortest(differing: list[str], configs: list[dict[str, Any]]) -> tuple[str, ...] | None:
    """The fewest options that tell all runs apart, of as many those that say most; None where MOST do not."""
    ways: dict[tuple[int, ...], str] = {}
    for key in differing:
        if all(key in each for each in configs):
            values = [each[key] for each in configs]
            ways.setdefault(tuple(map(values.index, values)), key)  # of options that tell the same apart, the first
    for count in range(1, MOST + 1):
        for parts in combinations(ways, count):
            if len(set(zip(*parts, strict=True))) == len(configs):
                return tuple(ways[part] for part in parts)
    return None


def _folder_names(folders: list[Path]) -> list[str]:
    """The last parts of paths, as few as tell them apart."""
    for count in range(1, max(len(each.parts) for each in folders)):
        names = [str(Path(*each.parts[-count:])) for each in folders]
        if len(set(names)) == len(names):
            return names
    return [str(each) for each in folders]
