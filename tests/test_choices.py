"""The seam: a choice names its builder, which is imported late and given what it asks for; and what options say."""

import sys
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from lapel.config import choices
from lapel.config.choices import COMMAND, build, builder, choice, choices_of, kind_of, name_of
from lapel.config.composing import how_keys, options_below
from lapel.config.encoder import TinyConfig
from lapel.config.options import Options, option
from lapel.config.texts import text_of, texts_of


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A choice whose builder is in a module that nobody has imported."""
    for name in ("CHOICES", "_DECLARED", "_BUILDERS"):
        monkeypatch.setattr(choices, name, dict(getattr(choices, name)))
    (tmp_path / "late.py").write_text("def make(config, size, seed=5):\n    return type(config).__name__, size, seed\n")
    monkeypatch.syspath_prepend(tmp_path)

    @choice("trial", "mine", build="late:make")
    @dataclass
    class MineConfig(Options):
        """Mine."""

    return kind_of(MineConfig())


def test_a_builder_is_imported_when_it_is_built(declared: str) -> None:
    assert declared == "trial/mine"
    assert "late" not in sys.modules
    config = choices.CHOICES[declared]()
    assert build(declared, config=config, size=3, unasked=None) == ("MineConfig", 3, 5)
    assert build(declared, config=config, size=3, seed=1) == ("MineConfig", 3, 1)
    assert "late" in sys.modules
    with pytest.raises(TypeError, match="size"):
        build(declared, config=config)


def test_what_has_no_builder_elsewhere_is_its_own(declared: str) -> None:
    assert declared

    @choice("trial", "function")
    def make(size: int) -> int:
        return size + 1

    assert builder("trial/function") is make
    assert build("trial/function", size=1, seed=2) == 2
    assert list(choices_of("trial")) == ["mine", "function"]


def test_a_choice_is_known_by_its_name() -> None:
    assert (kind_of(TinyConfig()), name_of(TinyConfig())) == ("encoder/tiny", "tiny")
    with pytest.raises(TypeError, match="Options is no choice of any group"):
        kind_of(Options())


def test_options_say_where_they_are_declared_that_a_resume_may_change_them() -> None:
    assert set(how_keys()) == {
        "trainer.accelerator", "trainer.devices", "trainer.threads", "trainer.checkpoint_every",
        "trainer.checkpoint_minutes", "trainer.compile", "data.root", "data.cache", "data.store", "data.workers",
        "data.download", "data.timeout", "quiet",
    }  # fmt: skip


@dataclass
class Base(Options):
    """A base."""

    size: int = option(1)
    """How large it is,
    in pixels."""
    plain: int = 2
    lr: float = 0.1
    """How fast."""


@dataclass
class Derived(Base):
    """Overrides one."""

    lr: float = 0.2
    colour: str = "red"
    """Its colour."""


def test_a_text_is_the_docstring_after_its_option() -> None:
    assert texts_of(Base) == {"size": "How large it is, in pixels.", "plain": "", "lr": "How fast."}
    inherited = {"size": "How large it is, in pixels.", "plain": "", "lr": "How fast."}
    assert texts_of(Derived) == {**inherited, "colour": "Its colour."}
    assert text_of(Derived, "nothing") == ""


def test_texts_are_found_for_the_options_of_all_commands() -> None:
    for config in choices_of(COMMAND).values():
        assert set(texts_of(config)) == {each.name for each in fields(config)}
        assert len(dict(options_below(config))) >= len(fields(config))
