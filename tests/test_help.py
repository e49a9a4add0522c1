"""Help, and the page of all options: one screen each, complete, and of what is really there."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from lapel.commands.help import print_help, screen, told_of
from lapel.commands.starting import asks_for_help
from lapel.config.choices import COMMAND, choices_of
from lapel.config.composing import compose, flat, to_plain
from lapel.config.described import Command, described, typed
from lapel.errors import LapelError

ROOT = Path(__file__).parents[1]
COMMANDS = choices_of(COMMAND)


def command(name: str) -> Command:
    return described(COMMANDS[name], name)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_one_screen(name: str) -> None:
    lines = screen(command(name))
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 100
    assert not [line for line in lines if re.match(r"  \S+=.*…$", line)], "a text is cut in the middle of a clause"
    examples = lines[lines.index("Examples") + 1 :][:4]
    assert all("  # " in line and COMMANDS[name].program in line for line in examples)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_and_every_choice_says_what_it_is(name: str) -> None:
    found = command(name)
    assert not [each.key for each in found.all_options() if not each.text]
    assert not [each.name for group in found.groups for each in group.choices if not each.text]
    assert "_MISSING_TYPE" not in "\n".join(told_of(found, "all"))


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_name_what_there_is(name: str) -> None:
    found = command(name)
    keys = {each.key for each in found.all_options()}
    groups = {group.name: group for group in found.groups}
    given = [each for arguments, _ in found.config.examples for each in re.findall(r"(\S+?)=(\S+)", arguments)]
    for key, value in given:
        assert key in keys or all(groups[key].choice(each) for each in value.split(","))
    assert set(found.config.often) <= keys


@pytest.mark.parametrize(
    "chosen", [[], ["data=wardrobe", "optim=sgd"], ["encoder=resnet50", "data=folder", "augment=photo"]]
)
def test_defaults_are_those_of_a_run(chosen: list[str]) -> None:
    composed = {key: typed(value) for key, value in flat(to_plain(compose("train", chosen))).items()}
    found = command("train")
    compared = 0
    for group in found.groups:
        name = dict(each.split("=") for each in chosen).get(group.name, group.default)
        choice = group.choice(name)
        for option in [*group.options, *(each for names, own in group.own.items() if name in names for each in own)]:
            told = choice.sets.get(option.key, option.default) if choice else ""
            if choice is None or option.key == "variant.name" or not told:
                continue
            assert composed[option.key] in (told, f"[{told},{told}]", f"[{told}]", "[]" if told == "null" else told)
            compared += 1
    assert compared > 40


def test_groups_have_the_choices_that_hydra_finds() -> None:
    for group in command("train").groups:
        with pytest.raises(LapelError, match="allowed are") as told:
            compose("train", [f"{group.name}=nonesuch"])
        listed = str(told.value).partition("allowed are ")[2].partition(" (did you")[0].split(", ")
        assert sorted(listed) == [each.name for each in group.choices]


def test_one_group_choice_or_option_can_be_asked_for() -> None:
    train = command("train")
    group = "\n".join(told_of(train, "encoder"))
    assert "encoder=tiny*" in group
    assert "encoder.trunk_lr=1   at least 0" in group
    assert "With encoder=tiny\n  encoder.widths=[32,64,128,256]" in group
    chosen = "\n".join(told_of(train, "encoder=resnet18"))
    assert "encoder.embedding=128" in chosen, "what the choice sets, and not what others have"
    assert "encoder.widths" not in chosen
    assert told_of(train, "seed")[0] == "  seed=0   0 to 4294967295"
    assert "Signs of a collapse" in told_of(train, "watchdog")[0]
    whole = "\n".join(told_of(train, "all"))
    assert all(f"  {each.key}=" in whole for each in train.all_options())
    assert max(map(len, whole.splitlines())) <= 100


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (["--help=optim"], "optim: What every optimizer has"),
        (["image=a.jpg", "optim.lr=1", "--help", "--cfg", "job"], "Trains a model"),
        (["-h", "data.size"], "  data.size=28"),
    ],
)
def test_help_is_on_what_is_named_and_not_on_what_stands_beside_it(
    arguments: list[str], first: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["lapel-train", *arguments])
    assert asks_for_help()
    print_help("train")
    assert capsys.readouterr().out.startswith(first)


@pytest.mark.parametrize(
    ("topic", "told"),
    [
        ("encodr", "did you mean encoder?"),
        ("encoder=resnet", "no such encoder"),
        ("loss=tripplet", "did you mean triplet?"),
        ("optim.lrr", "did you mean optim.lr?"),
    ],
)
def test_what_there_is_not_is_told(topic: str, told: str) -> None:
    with pytest.raises(LapelError, match=re.escape(told)):
        told_of(command("train"), topic)


def test_the_page_of_all_options_is_up_to_date() -> None:
    page = runpy.run_path(str(ROOT / "scripts" / "options_page.py"))["page"]()
    assert page == (ROOT / "docs" / "options.md").read_text(), "make docs writes it anew"


HELPED = """
import sys
from lapel.config.choices import COMMAND, builder, choices_of
for name, config in choices_of(COMMAND).items():
    sys.argv[:] = [config.program, "--help"]
    builder(f"{COMMAND}/{name}")()
assert not {"torch", "pandas"} & set(sys.modules), "slow to import"
"""

SHOWN = """
import sys
from lapel.commands.train import main
sys.argv[:] = ["lapel-train", "--cfg", "job", "optim.lr=0.125"]
main()
assert not {"torch", "pandas"} & set(sys.modules), "slow to import"
"""


@pytest.mark.parametrize(("code", "printed"), [(HELPED, "Examples"), (SHOWN, "  lr: 0.125")])
def test_what_is_only_shown_imports_nothing_slow(code: str, printed: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert printed in done.stdout
    assert not done.stderr
