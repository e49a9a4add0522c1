"""From overrides to checked configs: every shipped one composes and builds, and mistakes are told in one line."""

import copy
from pathlib import Path

import pytest
from conftest import TINY
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

import lapel.losses
from lapel.commands.hydra_app import quote_free_text
from lapel.config.choices import CHOICES, kind_of, name_of
from lapel.config.composing import compose, free_text_keys, from_plain, to_plain
from lapel.config.data import DataConfig, TableConfig
from lapel.config.evaluation import EvaluateConfig
from lapel.config.export import ExportConfig
from lapel.config.objective import ContrastiveConfig, TripletConfig
from lapel.config.optim import AdamWConfig, MuonConfig
from lapel.config.sampler import PairsConfig
from lapel.config.train import TrainConfig
from lapel.encoders.encoder import build as build_encoder
from lapel.errors import LapelError

CONF = Path(__file__).parent.parent / "conf"
GROUPS = ["data", "encoder", "variant", "sampler", "augment", "optim", "trainer", "miner"]
SHIPPED = [f"{group}={each.stem}" for group in GROUPS for each in sorted((CONF / group).glob("*.yaml"))]

# Encoders that are built for small images in no time; test_trunks.py builds them all.
SMALL_ENCODERS = ("encoder=tiny", "encoder=efficientnet_lite0", "encoder=resnet18")


@pytest.mark.parametrize("override", SHIPPED)
def test_every_shipped_choice_composes_builds_and_survives_a_round_trip(override: str) -> None:
    also = ["optim=adamw"] if override == "trainer=fsdp" else []  # it cuts the matrices that the default is for
    config = compose("train", [override, *also])
    assert from_plain(to_plain(config)) == config
    if override.startswith("encoder=") and override not in SMALL_ENCODERS:
        return
    encoder = build_encoder(config.encoder, config.data, config.variant.metric)
    objectives = lapel.losses.build(config.variant, config.encoder.embedding, items=5, categories=3)
    assert encoder.normalize == (config.variant.metric.name == "cosine")
    assert set(objectives) == set(config.variant.objectives)


def test_every_yaml_of_a_choice_has_its_schema_and_every_group_its_yaml() -> None:
    for kind in CHOICES:
        group, name = kind.split("/")
        assert name in ("base", "none") or (CONF / group / f"{name}.yaml").is_file(), kind
    assert {each.name for each in CONF.iterdir() if each.is_dir() and each.name[0] != "_"} == {
        *GROUPS,
        "objective",
        "recipe",
    }


LOSSES = sorted(each.stem for each in (CONF / "objective").glob("*.yaml") if each.stem != "cross_entropy")


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_takes_the_place_of_the_variants_own(name: str) -> None:
    config = compose("train", [f"loss={name}", "loss.weight=0.5"])
    assert name_of(config.variant.objectives["pair"]) == name
    assert config.variant.objectives["pair"].weight == 0.5
    assert config.name == f"fashion_mnist-siam_cat_cos+{name}-tiny"
    assert from_plain(to_plain(config)) == config


@pytest.mark.parametrize("recipe", sorted(each.stem for each in (CONF / "recipe").glob("*.yaml")))
def test_every_recipe_composes_and_can_be_changed(recipe: str) -> None:
    config = compose("train", [f"recipe={recipe}", "augment=none", "trainer.max_epochs=1"])
    assert config.trainer.max_epochs == 1
    assert config.augment.flip == 0
    assert from_plain(to_plain(config)) == config


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_other_commands_compose(command: str) -> None:
    assert isinstance(compose(command, ["run=x"]), {"evaluate": EvaluateConfig, "export": ExportConfig}[command])


def test_defaults_are_those_of_the_dataclasses() -> None:
    config = compose("train", [])
    assert (config.name, config.seed) == ("fashion_mnist-siam_cat_cos-tiny", 0)
    assert config.optim == MuonConfig()
    assert kind_of(config.data) == "data/fashion_mnist"
    assert name_of(config.sampler) == "balanced"


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("variant=siamm", ["variant=siamm", "siam_cat_cos", "did you mean siam"]),
        ("optim.lrr=1", ["optim.lrr", "lr, weight_decay", "did you mean lr"]),
        ("+optim.lrr=1", ["optim.lrr", "lr, weight_decay"]),
        ("+nonsense=1", ["nonsense", "data, encoder, variant"]),
        ("nonsense.deep=1", ["nonsense.deep", "data, encoder, variant"]),
        ("data.batch_size=-1", ["data.batch_size=-1", "at least 2"]),
        ("data.batch_size=many", ["data.batch_size", "many", "must be a whole number, or auto"]),
        ("data.channels=2", ["data.channels=2", "1 (grey) or 3 (RGB)"]),
        ("optim.lr=0", ["optim.lr=0", "more than 0"]),
        ("optim.lr=nan", ["optim.lr=nan", "more than 0"]),
        ("augment.erase=29", ["augment.erase=29", "data.size=28"]),
        ("augment.shift=28", ["augment.shift=28", "data.size=28"]),
        ("encoder.widths=[16,0]", ["encoder.widths", "at least 1"]),
        ("encoder.widths=[]", ["encoder.widths", "at least one"]),
        ("seed=null", ["seed: must not be null"]),
        ("~data", ["data", "missing"]),
        ("data=[", ["data=["]),
        ("variant.objectives.pair.margin=0", ["variant.objectives.pair.margin=0", "more than 0"]),
        ("variant.objectives.pair.marginn=1", ["variant.objectives.pair.marginn", "did you mean margin"]),
        ("variant.objectives.pair.form=l2", ["variant.objectives.pair.form", "bell, hadsell"]),
        ("variant.objectives.other.margin=1", ["variant.objectives.other"]),
        ("variant.objectives.pair.pairs=given", ["variant.objectives.pair.pairs=given", "sampler=pairs"]),
        ("sampler.images=200", ["data.batch_size", "sampler.items x sampler.images"]),
        ("trainer.devices=1000", ["trainer.devices=1000", "data.batch_size"]),
        ("loss.margin=1", ["loss.margin", "no loss to change", "loss=NAME"]),
        ("miner.epsilon=1", ["miner.epsilon", "no miner to change", "miner=NAME"]),
        ("stages=[1,2]", ["1: must be options, in braces", "{epochs:1}"]),
        ("stages=few", ["stages: must be a list, in brackets: stages=["]),
        ("hydra.run.dir=here", ["hydra.run.dir", "lapel.train is given its folder"]),
        ("variant.objectives={pair:{weight:0},category:{weight:0}}", ["siam_cat_cos", "weight=0"]),
    ],
)
def test_a_mistake_is_told_in_one_line(override: str, told: list[str]) -> None:
    with pytest.raises(LapelError) as error:
        compose("train", [override])
    assert "\n" not in str(error.value)
    assert all(each in str(error.value) for each in told), str(error.value)


@pytest.mark.parametrize(
    ("command", "override", "told"),
    [
        ("evaluate", "k=[null]", "k[0]: must not be null"),
        ("train", "stages=[{epochs:x}]", "epochs=x: must be a whole number, at least 1"),
        ("train", "trainer.precision=[a]", "trainer.precision=['a']: must be one of auto, fp32, bf16, fp16"),
        ("evaluate", "metric=[3]", "metric=[3]: must be one of cosine, euclidean"),
        ("train", "data.root=[a,b]", "data.root=['a', 'b']: must be a text"),
        ("train", "trainer.compile=[1]", "trainer.compile=[1]: must be true or false"),
        ("train", "optim=3", "optim=3: must be a name"),
        ("train", "trainer=true", "trainer=True: must be a name"),
        ("train", "optim.lr=inf", "optim.lr=inf: must be more than 0, and finite"),
        ("train", "encoder.embedding=1000000000", "encoder.embedding=1000000000: must be at least 2 and at most 65536"),
    ],
)
def test_a_value_of_another_kind_says_what_is_allowed(command: str, override: str, told: str) -> None:
    with pytest.raises(LapelError) as caught:
        compose(command, [override])
    assert str(caught.value) == told


LISTS = [
    ("evaluate", [], "k"),
    ("evaluate", [], "verification.fpr"),
    ("evaluate", [], "graded"),
    ("export", [], "export.formats"),
    ("train", [], "encoder.widths"),
    ("train", ["optim.schedule=step"], "optim.milestones"),
    ("train", ["encoder=resnet18"], "encoder.frozen"),
    ("train", [], "data.size"),
]


@pytest.mark.parametrize(("command", "others", "key"), LISTS)
@pytest.mark.parametrize("value", ["[[1]]", "[{a:1}]"])
def test_lists_hold_single_values(command: str, others: list[str], key: str, value: str) -> None:
    with pytest.raises(LapelError, match=r"(^|\.)(\w+)=\[[\[{].*: must be a list of single values$") as caught:
        compose(command, [*others, f"{key}={value}"])
    assert str(caught.value).startswith(f"{key}=")


@pytest.mark.parametrize(("command", "others", "key"), LISTS)
def test_an_empty_list_means_none_or_is_told(command: str, others: list[str], key: str) -> None:
    """What may be none, no rates of false positives for instance, is none; what must be some says so at once."""
    if key in ("verification.fpr", "graded", "optim.milestones", "encoder.frozen"):
        found = compose(command, [*others, f"{key}=[]"])
        for name in key.split("."):
            found = getattr(found, name)
        assert found == []
    else:
        with pytest.raises(LapelError, match=rf"{key}=\[\]: must (have at least one|be a number)"):
            compose(command, [*others, f"{key}=[]"])


def test_one_value_of_one_objective_can_be_overridden_and_an_objective_exchanged() -> None:
    pair = compose("train", ["variant=siam", "variant.objectives.pair.margin=0.2"]).variant.objectives["pair"]
    assert isinstance(pair, ContrastiveConfig)
    assert pair.margin == 0.2
    exchanged = compose("train", ["objective@variant.objectives.pair=triplet"]).variant.objectives
    assert isinstance(exchanged["pair"], TripletConfig)
    assert set(exchanged) == {"pair", "category"}


def test_a_config_made_in_python_is_checked_too() -> None:
    with pytest.raises(LapelError, match="lr=-1"):
        AdamWConfig(lr=-1)
    with pytest.raises(LapelError, match="positives=2"):
        PairsConfig(positives=2)


def test_a_plain_config_with_something_unknown_is_refused() -> None:
    plain = to_plain(compose("train", []))
    with pytest.raises(LapelError, match="momentum"):
        from_plain({**plain, "optim": {**plain["optim"], "momentum": 1}})
    with pytest.raises(LapelError, match="data/atlantis"):
        from_plain({**plain, "data": {**plain["data"], "kind": "data/atlantis"}})
    with pytest.raises(LapelError, match="batch_size=1"):
        from_plain({**plain, "data": {**plain["data"], "batch_size": 1}})


TINY_PLAIN = to_plain(compose("train", TINY))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    lr=st.floats(1e-6, 10),
    widths=st.lists(st.integers(1, 64), min_size=1, max_size=4),
    root=st.none() | st.text(st.characters(categories=["L", "N", "P", "Zs"]), min_size=1, max_size=12),
)
def test_plain_configs_come_back_equal(seed: int, lr: float, widths: list[int], root: str | None) -> None:
    plain = copy.deepcopy(TINY_PLAIN)
    plain["seed"], plain["optim"]["lr"], plain["encoder"]["widths"] = seed, lr, widths
    plain["data"]["root"] = root
    config = from_plain(plain)
    assert isinstance(config, TrainConfig)
    assert to_plain(config) == plain
    assert config.data.root == root


PATHS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=20)


@settings(max_examples=25, deadline=None)
@given(PATHS.filter(lambda text: text != "null" and not (text[0] in "'\"" and text[0] == text[-1] and len(text) > 1)))
def test_free_text_reaches_the_config_letter_by_letter(text: str) -> None:
    keys = free_text_keys(TrainConfig)
    assert "data.root" in keys
    config = compose("train", [quote_free_text(f"data.root={text}", keys)])
    assert isinstance(config.data, DataConfig)
    assert config.data.root == text


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["pos_strategy=semihard", "neg_strategy=semihard"], "pos_strategy=semihard, miner.neg_strategy=semihard"),
        (["pos_strategy=all"], "pos_strategy=all, miner.neg_strategy=semihard: semihard goes with hard or easy alone"),
        (["neg_strategy=all", "pos_strategy=semihard"], "semihard goes with hard or easy alone"),
    ],
)
def test_miners_refuse_what_the_library_would(overrides: list[str], told: str) -> None:
    options = ["variant=supcon", "loss=contrastive", "miner=batch_easy_hard", *(f"miner.{each}" for each in overrides)]
    with pytest.raises(LapelError, match=told):
        compose("train", options)


def test_a_miner_that_would_draw_nothing_is_refused() -> None:
    options = ["variant=supcon", "loss=margin", "miner=distance_weighted", "miner.cutoff=1.5"]
    with pytest.raises(LapelError, match=r"miner\.cutoff=1\.5: must be less than miner\.nonzero_loss_cutoff=1\.4"):
        compose("train", options)


def test_only_free_text_is_quoted() -> None:
    assert quote_free_text("seed=1,2", {"data.root"}) == "seed=1,2"
    assert quote_free_text("data.root='a b'", {"data.root"}) == "data.root='a b'"
    assert quote_free_text("data.root=null", {"data.root"}) == "data.root=null"
    assert quote_free_text("-m", {"data.root"}) == "-m"


@pytest.mark.parametrize(
    "text",
    [
        '"base colour" == "red"',
        "'base colour' == 'red'",
        """"c'q" == "it's\"""",
        """'c"q' == 'it"s'""",
        '"kind',
        '"',
        "colour == 'a\\'",
        r'"say \"x\"" == "y\\"',
    ],
)
def test_filters_with_quotes_reach_the_config_letter_by_letter(text: str) -> None:
    """A text that begins and ends with a quote is quoted only where that is one pair."""
    argument = quote_free_text(f"data.where={text}", free_text_keys(TrainConfig))
    config = compose("train", ["data=table", "data.table=t.csv", "data.image=path", "data.item=sku", argument])
    assert isinstance(config.data, TableConfig)
    assert config.data.where == text


def test_several_quoted_texts_are_swept_over() -> None:
    argument = "data.where='price > 1','colour == \"red\"'"
    assert quote_free_text(argument, {"data.where"}) == argument
    (parsed,) = OverridesParser.create().parse_overrides([argument])
    assert list(parsed.sweep_string_iterator()) == ["'price > 1'", "'colour == \"red\"'"]


def test_evaluate_and_export_quote_their_paths() -> None:
    assert {"run", "data.root"} <= free_text_keys(EvaluateConfig)
    assert {"run", "data.root"} <= free_text_keys(ExportConfig)


def test_configs_are_yaml() -> None:
    plain = to_plain(compose("train", []))
    assert OmegaConf.to_container(OmegaConf.create(OmegaConf.to_yaml(OmegaConf.create(plain)))) == plain
