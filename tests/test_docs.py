"""What README and docs tell people to type: every option exists, every command composes, and the quick ones run."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import photo_trees
import pytest
import torch
from conftest import TINY
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image

import lapel
from lapel.commands.hydra_app import quoted_arguments
from lapel.commands.literal import read_literally
from lapel.config.choices import CHOICES, COMMAND, choices_of
from lapel.config.composing import compose, options_below
from lapel.files.writing import link_to

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# What stands for something of the reader's own.
BLANKS = ("FILE", "FOLDER", "…", "runs/X", "SECONDS")

# Trains for minutes, or asks a hub.
LONG = re.compile(
    r"^python train\.py (?!data=(folder|table)|--cfg)|^python train\.py$|weights=default|recipe=|find_lr|-m "
)


def blocks(page: Path, language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [text for kind, text in found if kind == language]


def spans(page: Path) -> list[str]:
    """Code within sentences."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [" ".join(each.split()) for each in re.findall(r"`([^`]+)`", text)]


def commands() -> list[str]:
    """Every command of lapel's own, once, without comments."""
    lines = [line for page in PAGES for block in blocks(page, "") for line in block.replace("\\\n", " ").splitlines()]
    told = [*lines, *(each for page in PAGES for each in spans(page))]
    own = [" ".join(shlex.quote(part) for part in shlex.split(each, comments=True)) for each in told if is_own(each)]
    return list(dict.fromkeys(each for each in own if not any(blank in each for blank in BLANKS)))


def is_own(line: str) -> bool:
    return re.match(r"(python (train|evaluate|export)\.py|lapel-[a-z]+ (?!=))", line) is not None


def test_there_are_commands() -> None:
    assert len(commands()) > 25
    assert "python evaluate.py run=latest" in commands()


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the pages speak of: photos, a table of them, weights, a config of one's own."""
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    return tmp_path


def lay_out(folder: Path) -> None:
    generator = np.random.default_rng(0)
    lines = ["path,sku,kind"]
    for item in range(10):
        (folder / "photos" / f"item{item}").mkdir(parents=True)
        for view in range(30):
            pixels = (generator.random((40, 30, 3)) * 60 + 18 * item).astype(np.uint8)
            name = f"photos/item{item}/{view}.jpg"
            Image.fromarray(pixels).save(folder / name)
            lines.append(f"{name},sku{item},kind{item % 3}")
    (folder / "photos.csv").write_text("\n".join(lines) + "\n")
    for name in ("my photo (1).png", "photo.jpg", "a.jpg", "b.jpg"):
        Image.open(folder / "photos/item3/0.jpg").save(folder / name)
    (yaml,) = [each for each in blocks(ROOT / "docs/training.md", "yaml") if "my_conf/variant/mine.yaml" in each]
    (folder / "my_conf/variant").mkdir(parents=True)
    (folder / "my_conf/variant/mine.yaml").write_text(yaml)


@pytest.mark.parametrize("command", commands())
def test_every_command_composes(command: str, desk: Path) -> None:
    assert desk
    program, *arguments = shlex.split(command)
    name = arguments.pop(0).removesuffix(".py") if program == "python" else program.removeprefix("lapel-")
    if name in ("search", "compare"):
        options = [each for each in arguments if "=" in each]
        read_literally(options if name == "compare" or options else ["row=0"], choices_of(COMMAND)[name])
        return
    if name == "data":
        assert arguments.pop(0) in ("prepare", "check", "audit")
        name = "catalog"
    overrides = [each for each in quoted_arguments(arguments, name) if each not in ("-m", "--cfg", "job")]
    if any(each.startswith("resume=") for each in overrides):
        return  # of a run that is not there
    parsed = OverridesParser.create().parse_overrides(overrides)
    for trial in BasicSweeper.split_arguments(parsed, None)[0]:
        compose(name, list(trial))


def known_keys() -> set[str]:
    """Whole keys of all options of all commands; of an objective's, a miner's or a stage's the last part, too."""
    keys = {key for config in choices_of(COMMAND).values() for key, _ in options_below(config)}
    keys |= {f"{kind.partition('/')[0]}.{each.name}" for kind, cls in CHOICES.items() for each in fields(cls)}
    objectives = {each.name for kind, cls in CHOICES.items() if kind.startswith("objective/") for each in fields(cls)}
    keys |= {f"loss.{name}" for name in objectives}
    return keys | {"hydra.run.dir", "hydra.sweep.dir", "recipe", "ARGS", "PYTHON"}


def options_told() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for span in (each for each in spans(page) if not each.startswith("@")):  # Python's decorators
            for key in re.findall(r"(?:^|[\s'\"])([a-z_]+(?:\.[a-z_]+)*)=(?!=)", span):
                yield page.name, key


def test_every_option_that_is_named_exists() -> None:
    keys, told = known_keys(), set(options_told())
    assert len(told) > 60
    unknown = {
        (page, key) for page, key in told if key not in keys and not re.match(r"variant\.objectives\.\w+\.\w+$", key)
    }
    assert not unknown


def test_the_pages_lead_from_one_to_the_next_in_the_order_of_the_readme() -> None:
    order = re.findall(r"^\d\. \[docs/(\w+\.md)\]", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert sorted(order) == sorted(page.name for page in PAGES[1:])
    for before, name, after in zip(["../README.md", *order], order, [*order[1:], None], strict=False):
        line = re.search(r"^Reading order: .*$", (ROOT / "docs" / name).read_text(), flags=re.MULTILINE)
        assert line is not None
        assert re.findall(r"\(([^)]+)\)", line[0]) == [each for each in (before, after) if each]


def test_every_link_leads_somewhere() -> None:
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
            path, _, anchor = target.partition("#")
            file = page if not path else (page.parent / path)
            assert file.exists(), f"{page.name}: {target}"
            heads = re.findall(r"^#+ (.+)$", file.read_text(), flags=re.MULTILINE) if file.suffix == ".md" else []
            assert not anchor or anchor in [re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in heads]


QUICK = [each for each in commands() if not LONG.search(each)]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `desk`, with two runs, evaluated and exported, and data sets where they are looked for."""
    folder = tmp_path_factory.mktemp("bench")
    lay_out(folder)
    photo_trees.fashion_product(folder / "data" / "fashion_product")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        for name in ("a", "b"):
            overrides = [*TINY, "data.channels=3", "encoder.embedding=64", f"seed={int(name == 'b')}"]
            lapel.train(lapel.compose("train", overrides), folder / "runs" / name)
            for script in (["evaluate.py", "neighbors=true", "neighbors_k=50"], ["export.py"]):
                run(folder, "python", *script)
        import timm

        weights = timm.create_model("tf_efficientnet_lite0", num_classes=0).state_dict()
        torch.save(weights, folder / "lite0.pth")
    return folder


def run(folder: Path, program: str, *arguments: str) -> str:
    """Run a command as it is typed in a clone, in another folder."""
    scripts = {"train.py", "evaluate.py", "export.py"}
    typed = [str(ROOT / each) if each in scripts else each for each in arguments]
    executable = sys.executable if program == "python" else str(Path(sys.executable).parent / program)
    done = subprocess.run([executable, *typed], cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", QUICK)
def test_quick_commands_run(command: str, bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(bench / "cache"))
    link_to(bench / "latest", bench / "runs" / "b")
    run(bench, *shlex.split(command))


@pytest.mark.slow
def test_the_lines_of_python_run(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(bench / "cache"))
    link_to(bench / "latest", bench / "runs" / "a")
    for page in PAGES:
        for code in blocks(page, "python"):
            quick = code.replace("lapel.train(config)", "pass")
            done = subprocess.run([sys.executable, "-c", quick], cwd=bench, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_files_of_a_run_are_those_of_the_readme(bench: Path) -> None:
    (tree,) = [each for each in blocks(ROOT / "README.md", "") if each.startswith("runs/<data>")]
    named = set(re.findall(r"[a-z_]+\.(?:yaml|log|json|ckpt|html|parquet|csv|ts|faiss|npz)", tree))
    there = {each.name for each in (bench / "runs" / "a").rglob("*") if each.is_file()}
    assert named <= there
    assert json.loads((bench / "runs/a/train.json").read_text())["steps"]
