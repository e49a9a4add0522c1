"""Which file each path of a listing means: as it stands, or in another spelling that can mean one file alone.

People write paths as their own programs do: absolute, with backslashes, in other case, with accents composed or apart,
without a suffix. What is understood is told once for each kind, with the first example; what is not keeps its name.
"""

import logging
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from lapel.photos.tree import Tree

logger = logging.getLogger(__name__)

ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")

# A path of Windows' from a drive or a server on.
OTHER_SYSTEMS = re.compile(r"[a-zA-Z]:[\\/]|\\\\")


def is_address(path: str) -> bool:
    """Whether a path is an address in a network."""
    return ADDRESS.match(path) is not None


@dataclass(frozen=True)
class Names:
    """The files that paths are looked for among.

    Args:
        tree: that holds them.
        base: folder in it that paths are relative to, `""` or ending in `/`.
    """

    tree: Tree
    base: str

    def has(self, name: str) -> bool:
        """Whether there is a file of this very name."""
        return self.tree.has(self.base + name)

    @cached_property
    def _all(self) -> list[str]:
        inside = (name for name in self.tree.names() if name.startswith(self.base))
        return [name.removeprefix(self.base) for name in inside]

    @cached_property
    def _by_folded(self) -> dict[str, list[str]]:
        """Names by what is left of them without case and kind of accents."""
        return _grouped(self._all, folded)

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        """Names by themselves without their suffix."""
        return _grouped(self._all, lambda name: str(PurePosixPath(name).with_suffix("")) if "." in name else name)

    def meant_by(self, path: str) -> tuple[str, str]:
        """The file that a path means, and how it is written there; the path itself where it means none or several."""
        if self.has(path) or is_address(path):
            return path, ""
        for how, other in self._spellings(path):
            if self.has(other):
                return other, how
            alike = self._by_folded.get(folded(other), [])
            if len(alike) == 1:
                same = unicodedata.normalize("NFC", alike[0]) == unicodedata.normalize("NFC", other)
                return alike[0], how if same else how or "in other case"
        return path, ""

    def _spellings(self, path: str) -> Iterator[tuple[str, str]]:
        """How else a path may be written: relative to the root, with slashes."""
        yield "", path
        if path.strip() != path:
            path = path.strip()
            yield "with blanks around them", path
        slashed = path.replace("\\", "/")
        if slashed != path:
            yield "with backslashes", slashed
        if slashed.startswith(f"{self.tree.root.name}/"):
            yield "below the root's own name", slashed.partition("/")[2]
        for root in {str(self.tree.root.absolute()), str(self.tree.root.resolve())}:
            inside = f"{root}/{self.base}".rstrip("/") + "/"
            if slashed.startswith(inside):
                yield "absolute", slashed.removeprefix(inside)

    def why_missing(self, path: str) -> str:
        """In a few words, why a path means no file; empty where nothing at all goes by that name."""
        if why := self.tree.why_missing(self.base + path):
            return why
        if OTHER_SYSTEMS.match(path):
            return f"an absolute path of another system, must be relative to {self.tree.root}"
        alike = self._by_folded.get(folded(path), [])
        if len(alike) > 1:
            return f"differs by case from {' and '.join(sorted(alike)[:2])}"
        if longer := self._by_stem.get(path, []):
            return f"lacks {suffix_of(longer[0])}"
        return ""

    def folder_above(self, path: str) -> str:
        """The folder below the root in which a path means a file; empty where there is none."""
        wanted = folded(path.replace("\\", "/"))
        found = next((name for name in self._all if folded(name).endswith(f"/{wanted}")), "")
        return found[: len(found) - len(path) - 1]

    def lacking(self, paths: list[str]) -> tuple[str, list[str]]:
        """The suffix that most of these paths lack, and the paths that lack it."""
        lack: dict[str, list[str]] = defaultdict(list)
        for path in paths:
            for longer in self._by_stem.get(path, [])[:1]:
                lack[suffix_of(longer)].append(path)
        return max(lack.items(), key=lambda each: len(each[1]), default=("", []))


def _straight(path: str) -> str:
    """A path without detours, so that one file has one name: `./a//b` is `a/b`."""
    return posixpath.normpath(path) if ("//" in path or "./" in path) and not is_address(path) else path


def suffix_of(name: str) -> str:
    """A file's suffix as it is written, with its dot."""
    return PurePosixPath(name).suffix


def folded(name: str) -> str:
    """A name without case, its accents composed."""
    return unicodedata.normalize("NFC", name.casefold())


def _grouped(names: list[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        found[key(name)].append(name)
    return found


def understood(paths: list[str], names: Names) -> list[str]:
    """The files that paths mean; each other spelling is told, with its first example."""
    found: list[str] = []
    told: dict[str, list[tuple[str, str]]] = {}
    for path in paths:
        name, how = names.meant_by(_straight(path))
        found.append(name)
        if how:
            told.setdefault(how, []).append((path, name))
    for how, several in told.items():
        first, name = several[0]
        logger.info(
            "%s: %d of %d paths are %s, and are read so: %s is %s", names.tree.root, len(several), len(paths),
            how if how == "absolute" else f"written {how}", first, name,
        )  # fmt: skip
    return found
