"""The walls of the house: which room may import which, what comes without torch, and names that mean one thing.

The rooms and their order are those that docs/architecture.md draws.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.util import resolve_name
from pathlib import Path
from pkgutil import iter_modules, walk_packages
from types import ModuleType

import pytest

import lapel
from lapel.config.choices import COMMAND, builder, choices_of
from lapel.config.commands import CommandConfig

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "lapel"

# Rooms that do their work without torch, and what else must be told, searched or read without it.
WITHOUT_TORCH = (
    "config",
    "catalog",
    "photos",
    "datasets",
    "embedding",
    "bundle",
    "files",
    "machine",
    "commands",
    "inspection",
)


def rooms() -> list[str]:
    """The rooms from the top floor down, as docs/architecture.md draws them."""
    drawn = (ROOT / "docs" / "architecture.md").read_text().split("```")[1]
    found = re.findall(r"^([a-z]+)(?:/|\.py)\s", drawn, flags=re.MULTILINE)
    assert found[-1] == "errors"
    return found


def modules() -> Iterator[tuple[str, Path]]:
    for file in sorted(SOURCE.rglob("*.py")):
        parts = file.relative_to(SOURCE.parent).with_suffix("").parts
        if "conf" not in parts:
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), file


def imported(name: str, file: Path) -> set[str]:
    """Every module of lapel that a module imports, wherever the import stands: in functions and for types, too."""
    return imported_by(ast.parse(file.read_text()), name if file.name == "__init__.py" else name.rpartition(".")[0])


def imported_by(tree: ast.AST, package: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module or ""
            for each in node.names:
                inner = f"{base}.{each.name}"
                found.add(inner if is_module(inner) else base)
    return {each for each in found if each.partition(".")[0] == "lapel"}


def is_module(name: str) -> bool:
    path = SOURCE.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def room_of(name: str) -> str:
    """The room of a module: `catalog` of `lapel.catalog.seen`; empty for lapel itself."""
    return name.split(".")[1] if "." in name else ""


def upward(order: list[str], name: str, targets: set[str]) -> list[str]:
    """Imports that do not go down: into a room above, or into lapel itself, which stands above them all."""
    floor = order.index(room_of(name))
    return [each for each in sorted(targets) if not room_of(each) or order.index(room_of(each)) < floor]


def test_every_room_is_drawn_and_every_drawn_room_is_there() -> None:
    there = {each.stem for each in SOURCE.iterdir() if each.suffix == ".py" or (each / "__init__.py").is_file()}
    assert there - {"__init__", "conf"} == set(rooms())
    assert len(rooms()) == len(set(rooms()))


def test_imports_go_one_way() -> None:
    order = rooms()
    wrong = {
        name: found
        for name, file in modules()
        if room_of(name) and (found := upward(order, name, imported(name, file)))
    }
    assert not wrong


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("catalog", "from lapel.images.store import ImageStore"),
        ("catalog", "if TYPE_CHECKING:\n    from lapel.images.store import ImageStore"),
        ("bundle", "def f():\n    from lapel.encoders import encoder"),
        ("bundle", "import lapel.exporting.export"),
        ("config", "from lapel import datasets"),
        ("config", "from ..files import writing\nfrom ..losses.supcon import SupConLoss"),
        ("retrieval", "from lapel import load"),
    ],
)
def test_a_forbidden_import_is_found(room: str, line: str) -> None:
    assert upward(rooms(), f"lapel.{room}.new", imported_by(ast.parse(line), f"lapel.{room}"))
    assert not upward(rooms(), f"lapel.{room}.new", imported_by(ast.parse("from lapel.errors import LapelError"), ""))


def test_no_module_imports_itself_by_others() -> None:
    graph = {name: imported(name, file) - {name} for name, file in modules() if room_of(name)}
    assert not circles(graph)
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == {"a", "b", "c"}


def circles(graph: dict[str, set[str]]) -> set[str]:
    """Modules that stand in a circle of imports: what is left when those that import no other one are taken away."""
    left = dict(graph)
    while ends := {name for name, targets in left.items() if not targets & set(left)}:
        left = {name: targets for name, targets in left.items() if name not in ends}
    while True:  # and those that no other one of them imports
        used = {target for targets in left.values() for target in targets}
        if set(left) <= used:
            return set(left)
        left = {name: targets for name, targets in left.items() if name in used}


BLOCKED = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "pytorch_lightning", "pytorch_metric_learning"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Block())
"""


def in_a_process(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("room", ["", *WITHOUT_TORCH])
def test_rooms_without_torch_import_where_there_is_none(room: str) -> None:
    name = f"lapel.{room}" if room else "lapel"
    done = in_a_process(f"{BLOCKED}\nimport {name}\n" + import_all(room))
    assert done.returncode == 0, done.stderr


def import_all(room: str) -> str:
    """Code that imports every module of a room, but those that are torch's own."""
    aside = {"files": ("tensors",), "machine": ("devices",)}.get(room, ())
    inside = walk_packages([str(SOURCE / room)], f"lapel.{room}.") if room else ()
    names = [each.name for each in inside if each.name.rpartition(".")[2] not in aside]
    return "".join(f"import {name}\n" for name in names)


def test_evaluations_are_compared_without_torch() -> None:
    assert in_a_process(f"{BLOCKED}\nimport lapel.evaluation.comparison").stderr == ""


def test_the_block_is_a_wall() -> None:
    for room in ("retrieval.exact", "images.store", "encoders.encoder", "exporting.export"):
        assert "torch is blocked" in in_a_process(f"{BLOCKED}\nimport lapel.{room}").stderr


def test_a_bundle_is_read_and_searched_by_row_without_torch(trained_run: Path) -> None:
    code = f"""{BLOCKED}
import lapel
bundle = lapel.load({str(trained_run / "bundle")!r})
print(len(bundle.items), len(bundle.search_row(0, 5)), bundle.seen.catalog)
"""
    done = in_a_process(code)
    assert done.stdout.split() == ["40", "5", "wardrobe"], done.stderr


def packages() -> Iterator[ModuleType]:
    yield lapel
    for each in walk_packages(lapel.__path__, "lapel."):
        if each.ispkg and each.name != "lapel.conf":
            yield import_module(each.name)


def hidden(package: ModuleType) -> list[str]:
    """Modules of a package that cannot be had as its attribute, since something else goes by their name."""
    inside = [each.name for each in iter_modules(package.__path__) if each.name != "conf"]  # which Hydra alone reads
    for name in inside:
        import_module(f"{package.__name__}.{name}")
    exported = set(getattr(package, "__all__", []))
    shadowed = [name for name in inside if not isinstance(getattr(package, name), ModuleType)]
    return sorted({*shadowed, *(exported & set(inside))})


def test_no_name_hides_a_module() -> None:
    assert not {package.__name__: found for package in packages() if (found := hidden(package))}
    fake = ModuleType("lapel.files")
    fake.__path__ = [str(SOURCE / "files")]  # type: ignore[attr-defined]
    vars(fake).update(
        {
            "paths": print,
            "named": ModuleType("n"),
            "writing": ModuleType("writing"),
            "cache": ModuleType("c"),
            "tables": ModuleType("b"),
            "tensors": ModuleType("t"),
        }
    )
    assert hidden(fake) == ["paths"]


def identifiers(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        for field in ("id", "attr", "arg", "name", "asname"):
            name = getattr(node, field, None)
            if isinstance(name, str):
                yield name


def test_place_means_a_position_among_others() -> None:
    """A rank is a rank, a folder a folder, a data source an origin, a point on a plane has coordinates."""
    rooms_with_positions = {"retrieval", "evaluation", "sampling"}
    for name, file in modules():
        used = {each for each in identifiers(ast.parse(file.read_text())) if re.search(r"(^|_)places?(_|$)", each)}
        used -= {"in_place"}  # Pillow's and torch's own word
        assert not used or room_of(name) in rooms_with_positions, (name, used)


def test_files_are_written_in_one_way() -> None:
    """Nothing is renamed outside of files/writing.py, and whole files are written under a temporary name alone."""
    for name, file in modules():
        if name == "lapel.files.writing":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            to, what = node.func.attr, ast.unparse(node.func.value)
            assert to not in ("rename", "renames"), f"{name}: {ast.unparse(node)}"
            assert to != "replace" or len(node.args) != 1 or node.keywords, f"{name}: {ast.unparse(node)}"
            if to in ("write_text", "write_bytes"):
                assert what.startswith(("temporary", "staged.file(", "folder / ABOUT_FILE")), f"{name}: {what}"


# -------------------------------------------------------------------------------------------------- the seams


def test_the_commands_are_those_that_are_installed_and_told_of() -> None:
    installed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    table: dict[str, type[CommandConfig]] = choices_of(COMMAND)
    builders = {config.program: builder(f"{COMMAND}/{name}") for name, config in table.items()}
    assert set(installed) == set(builders)
    told = "\n".join(file.read_text() for file in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    for program, target in installed.items():
        module, _, name = target.partition(":")
        assert getattr(import_module(module), name) is builders[program]
        assert program in told


@pytest.mark.parametrize(
    "group", ["data", "objective", "miner", "encoder", "optim", "sampler", "format", "index", COMMAND]
)
def test_every_choice_has_a_builder(group: str) -> None:
    import_module("lapel.bundle")
    assert choices_of(group)
    for name in choices_of(group):
        assert callable(builder(f"{group}/{name}")), name
