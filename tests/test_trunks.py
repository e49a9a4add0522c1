"""Trunks of libraries, their weights from files, and what training leaves of frozen ones."""

import copy
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import few_fast
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

import lapel
from lapel.config.data import WardrobeConfig
from lapel.config.encoder import Library, Pool, TrunkConfig
from lapel.config.evaluation import Checkpoint, EvaluateConfig
from lapel.config.export import ExportConfig
from lapel.config.variant import Metric
from lapel.encoders.encoder import Average, GeneralizedMean, Maximum, build
from lapel.encoders.trunks import LibraryTrunk, PatchConv2d, PointwiseConv2d, SmallMapConv2d, TinyTrunk, build_trunk
from lapel.errors import LapelError
from lapel.runs.checkpoint import open_run

SMALL = "mobilenetv3_small_050"
DATA = WardrobeConfig(size=32)

WARDROBE = [
    "data=wardrobe", "data.items=40", "data.views=4", "data.size=32", "data.batch_size=16", "sampler.images=2",
    "trainer=cpu", "trainer.max_steps=3",
]  # fmt: skip


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Weights of a small model of timm, with a classifier, as a publisher has them."""
    import timm

    torch.manual_seed(5)
    return timm.create_model(SMALL, num_classes=7).state_dict()


def trunk_config(weights: Path | str = "none", **options: Any) -> TrunkConfig:
    return TrunkConfig(name=SMALL, weights=str(weights), **options)


@pytest.mark.parametrize("shape", [(3, 2), (4, 5), (5, 4), (9, 7)])
@pytest.mark.parametrize("training", [True, False])
def test_depthwise_convolutions_of_small_maps_stay_what_they_are(shape: tuple[int, int], training: bool):
    torch.manual_seed(0)
    plain = nn.Conv2d(6, 6, 5, padding=2, groups=6, dtype=torch.float64).train(training)
    trunk = LibraryTrunk(nn.Sequential(copy.deepcopy(plain)), 6, [0.5], [0.5]).train(training)
    (quick,) = (module for module in trunk.modules() if isinstance(module, nn.Conv2d))
    assert isinstance(quick, SmallMapConv2d)
    images = torch.randn(2, 6, *shape, dtype=torch.float64)
    for found, expected in zip(gradients(quick, images), gradients(plain, images), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("batch", [2, 15])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (7, 5)])
def test_strided_pointwise_convolutions_stay_what_they_are(batch: int, height: int, width: int):
    torch.manual_seed(0)
    plain = nn.Conv2d(8, 16, 1, (2, 3), bias=True, dtype=torch.float64)
    trunk = LibraryTrunk(nn.Sequential(copy.deepcopy(plain)), 16, [0.5], [0.5])
    (picking,) = (module for module in trunk.modules() if isinstance(module, nn.Conv2d))
    assert isinstance(picking, PointwiseConv2d)
    images = torch.randn(batch, 8, height, width, dtype=torch.float64)
    for found, expected in zip(gradients(picking, images), gradients(plain, images), strict=True):
        torch.testing.assert_close(found, expected)


@settings(max_examples=20, deadline=None)
@given(
    batch=st.integers(1, 5), inputs=st.integers(1, 9), outputs=st.integers(1, 9),
    height=st.integers(1, 9), width=st.integers(1, 9),
)  # fmt: skip
def test_patches_are_those_of_a_convolution(batch: int, inputs: int, outputs: int, height: int, width: int):
    quick = PatchConv2d(inputs, outputs).double()
    plain = nn.Sequential(nn.ZeroPad2d((0, width % 2, 0, height % 2)), nn.Conv2d(inputs, outputs, 2, 2, bias=False))
    plain = plain.double()
    plain[1].weight = quick.weight
    images = torch.randn(batch, inputs, height, width, dtype=torch.float64)
    for found, expected in zip(gradients(quick, images), gradients(plain, images), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_small_encoder_has_right_gradients_for_any_batch():
    """oneDNN computes strided convolutions of few channels by code of their own, one of which was wrong."""
    for batch in (3, 15, 33):
        torch.manual_seed(0)
        # Running statistics: no batch is too small for them.
        trunk = TinyTrunk([8, 16, 32, 32], 3, stride=2, residual=[0, 2]).eval()
        images = torch.randn(batch, 3, 16, 16)
        wide = copy.deepcopy(trunk).double()
        expected = gradients(wide, images.double())
        quick = trunk.to(memory_format=torch.channels_last)
        found = gradients(quick, images.contiguous(memory_format=torch.channels_last))
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))


def gradients(module: nn.Module, images: Tensor) -> list[Tensor]:
    """What a module makes of images, and the gradients of its squares."""
    leaf = images.clone().requires_grad_()
    found = module(leaf)
    return [found.detach(), *torch.autograd.grad(found.square().sum(), [leaf, *module.parameters()])]


def test_other_convolutions_are_left_alone():
    kept = [
        nn.Conv2d(6, 6, 5, padding=2),
        nn.Conv2d(6, 6, 3, padding=1, groups=6),
        nn.Conv2d(6, 6, 1, 2, groups=6),
        nn.Conv2d(16, 6, 1, 2),
        nn.Conv2d(6, 6, 5, padding="same", groups=6),
        nn.Conv2d(6, 6, 5, padding=2, groups=6, padding_mode="reflect"),
    ]
    LibraryTrunk(nn.Sequential(*kept), 6, [0.5], [0.5])
    assert not any(isinstance(module, SmallMapConv2d) for module in kept)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("wrapped", ["plain", "state_dict", "module"])
def test_weights_of_a_file_are_the_trunks(state: dict[str, Tensor], tmp_path: Path, suffix: str, wrapped: str):
    path = tmp_path / f"weights.{suffix}"
    content: Any = {f"module.{name}": tensor for name, tensor in state.items()} if wrapped == "module" else state
    if suffix == "safetensors":
        save_file({name: tensor.contiguous() for name, tensor in content.items()}, path)
    else:
        torch.save({"state_dict": content} if wrapped == "state_dict" else content, path)
    trunk = build_trunk(trunk_config(path), DATA, with_weights=True)
    own = trunk.state_dict()
    assert own
    assert all(torch.equal(own[name], state[name.removeprefix("model.")]) for name in own)


WRAPPERS = {
    "data parallel": lambda state: below("module.", state),
    "compiled": lambda state: below("_orig_mod.", state),
    "compiled, then data parallel": lambda state: below("module._orig_mod.", state),
    "a module of Lightning's": lambda state: {
        "state_dict": below("model.", state) | {"criterion.weight": torch.ones(3)},
        "epoch": 3,
        "hyper_parameters": {"lr": 0.1},
    },
    "another framework's backbone": lambda state: {
        "model": below("backbone.", state) | {"head.fc.weight": torch.ones(2)}
    },
    "with its optimizer": lambda state: {
        "model_state_dict": dict(state),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]},
    },
    "by its name": lambda state: {"ema": {"net": dict(state)}, "scaler": None},
}


def below(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_weights_are_found_below_whatever_stood_around_them(
    state: dict[str, Tensor], tmp_path: Path, wrapper: str, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "weights.pth"
    content = WRAPPERS[wrapper](state)
    torch.save(content, path)
    with caplog.at_level("INFO", logger="lapel"):
        own = build_trunk(trunk_config(path), DATA, with_weights=True).state_dict()
    assert all(torch.equal(own[name], state[name.removeprefix("model.")]) for name in own)
    assert f"encoder.weights={path}: taken from below " in caplog.text
    plain = tmp_path / "plain.pth"
    torch.save(state, plain)
    caplog.clear()
    build_trunk(trunk_config(plain), DATA, with_weights=True)
    assert "taken from below" not in caplog.text


@pytest.mark.parametrize("prefix", ["", "module."])
def test_counts_of_batches_may_be_missing_and_other_numbers_may_not(
    state: dict[str, Tensor], tmp_path: Path, prefix: str
):
    """PyTorch before 0.4.1 did not count the batches of a normalisation."""
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    torch.save(below(prefix, old), tmp_path / "old.pth")
    own = build_trunk(trunk_config(tmp_path / "old.pth"), DATA, with_weights=True).state_dict()
    assert all(torch.equal(own[f"model.{name}"], old[name]) for name in old if f"model.{name}" in own)
    assert all(not own[name].any() for name in own if name.endswith("num_batches_tracked"))
    torch.save(below(prefix, {**state, "norm.num_batches_tracked": torch.tensor(3)}), tmp_path / "more.pth")
    build_trunk(trunk_config(tmp_path / "more.pth"), DATA, with_weights=True)
    gone = [name for name in old if name.endswith("running_mean")]
    torch.save(below(prefix, {name: old[name] for name in old if name not in gone}), tmp_path / "less.pth")
    with pytest.raises(LapelError, match=rf"missing in the file: .*bn1\.running_mean, .* \({len(gone)} in all\)$"):
        build_trunk(trunk_config(tmp_path / "less.pth"), DATA, with_weights=True)


def test_a_file_that_holds_the_model_twice_does_not_tell_which_is_meant(state: dict[str, Tensor], tmp_path: Path):
    path = tmp_path / "weights.pth"
    mean = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    torch.save({"state_dict": below("model.", state) | below("model_ema.module.", mean)}, path)
    with pytest.raises(LapelError) as caught:
        build_trunk(trunk_config(path), DATA, with_weights=True)
    assert str(caught.value) == (
        f"encoder.weights={path}: holds the model 2 times, below state_dict.model, state_dict.model_ema.module; "
        "must hold it once"
    )


def test_another_models_weights_are_told_in_one_line(tmp_path: Path):
    import timm

    other = timm.create_model("resnet10t", num_classes=0).state_dict()
    torch.save({"state_dict": below("model.", other)}, tmp_path / "weights.pth")
    with pytest.raises(LapelError, match=r"does not fit the model.*; missing in the file: .*in all\)") as caught:
        build_trunk(trunk_config(tmp_path / "weights.pth"), DATA, with_weights=True)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_all_layers_of_all_classifiers_are_left_out(tmp_path: Path):
    import timm

    state = timm.create_model("levit_128s", num_classes=5).state_dict()
    assert {name.split(".")[0] for name in state} > {"head", "head_dist"}
    torch.save(state, tmp_path / "weights.pth")
    config = TrunkConfig(name="levit_128s", weights=str(tmp_path / "weights.pth"))
    trunk = build_trunk(config, WardrobeConfig(size=224), with_weights=True)
    own = trunk.state_dict()
    assert all(torch.equal(own[name], state[name.removeprefix("model.")]) for name in own)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda state: state.pop("conv_stem.weight"), "missing in the file: conv_stem.weight (1 in all)"),
        (lambda state: state.update(extra=torch.zeros(1)), "not in the model: extra (1 in all)"),
        (
            lambda state: state.update({"conv_stem.weight": torch.zeros(2, 3)}),
            "of another shape: conv_stem.weight [2, 3] for",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(state: dict[str, Tensor], tmp_path: Path, damage: Any, told: str):
    changed = dict(state)
    damage(changed)
    torch.save(changed, tmp_path / "weights.pth")
    with pytest.raises(LapelError, match=r"does not fit the model") as caught:
        build_trunk(trunk_config(tmp_path / "weights.pth"), DATA, with_weights=True)
    assert told in str(caught.value)


def test_files_that_are_no_weights_are_told(tmp_path: Path):
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "text.safetensors").write_text("no weights")
    torch.save({"a": 1}, tmp_path / "numbers.pth")
    torch.save(Path, tmp_path / "code.pth")
    for name, told in (
        ("nowhere.pth", "no such file; allowed are none, default"),
        ("text.pth", "cannot be read"),
        ("text.safetensors", "cannot be read"),
        ("numbers.pth", "must hold named tensors"),
        ("code.pth", "cannot be read"),
    ):
        with pytest.raises(LapelError) as caught:
            build_trunk(trunk_config(tmp_path / name), DATA, with_weights=True)
        assert told in str(caught.value), name
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("library", list(Library))
def test_an_unknown_model_is_told(library: Library):
    with pytest.raises(LapelError, match=rf"encoder\.name=resnet99: {library.name} has no such .*resne"):
        build_trunk(TrunkConfig(library=library, name="resnet99"), DATA, with_weights=False)


def test_weights_that_cannot_be_fetched_are_told(monkeypatch: pytest.MonkeyPatch):
    import timm

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no network\nhere")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(
        LapelError, match=r"weights=default: the weights of .* cannot be had \(no network here\); give a"
    ):
        build_trunk(trunk_config("default"), DATA, with_weights=True)


def test_a_hub_that_is_not_reached_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
):
    """The hub's client warns of every try, twice."""
    from huggingface_hub import file_download

    hub = logging.getLogger("huggingface_hub")
    before = hub.level

    def refused(*_: object, **__: object) -> None:
        hub.getChild("utils._http").warning("Retrying in 1s [Retry 1/5].")
        try:
            raise OSError("[Errno 111] Connection refused")
        except OSError as error:
            raise RuntimeError("An error happened.\nPlease check your connection") from error

    monkeypatch.setattr("timm.models._hub.hf_hub_download", refused)
    assert file_download.logger.name.startswith("huggingface_hub.")
    with caplog.at_level("INFO"), pytest.raises(LapelError) as caught:
        build_trunk(trunk_config("default"), DATA, with_weights=True)
    assert "Retrying" not in caplog.text + capsys.readouterr().err
    assert "asks timm's hub for the weights of" in caplog.text
    assert "cannot be had ([Errno 111] Connection refused); give a file" in str(caught.value)
    assert hub.level == before


def test_images_are_standardised_as_the_trunk_was_trained():
    for config, mean in (
        (TrunkConfig(name="tf_efficientnet_lite0"), 0.5),
        (TrunkConfig(name=SMALL), 0.485),
        (TrunkConfig(library=Library.torchvision, name="squeezenet1_1"), None),
    ):
        if mean is None:
            continue
        encoder = build(config, WardrobeConfig(size=32), Metric.cosine)
        assert encoder.preprocess.mean.flatten()[0] == pytest.approx(255 * mean)


@pytest.mark.parametrize("library", list(Library))
def test_grey_images_are_seen_as_three_equal_channels(library: Library):
    name = SMALL if library is Library.timm else "shufflenet_v2_x0_5"
    config = TrunkConfig(library=library, name=name, embedding=None)
    torch.manual_seed(0)
    grey = build(config, WardrobeConfig(size=32, channels=1), Metric.cosine).eval()
    torch.manual_seed(0)
    colour = build(config, WardrobeConfig(size=32, channels=3), Metric.cosine).eval()
    colour.preprocess.mean[:], colour.preprocess.std[:] = grey.preprocess.mean, grey.preprocess.std
    images = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        found = grey(images)
        torch.testing.assert_close(found, colour(images.expand(-1, 3, -1, -1)))
    assert found.shape == (2, grey.dimensions)


def states(run: Path) -> dict[str, Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_a_library_trunk_trains_evaluates_exports_and_searches(library: str, working_folder: Path):
    name = SMALL if library == "timm" else "shufflenet_v2_x0_5"
    options = ["encoder=trunk", f"encoder.name={name}", f"encoder.library={library}", "encoder.embedding=null"]
    lapel.train(lapel.compose("train", [*WARDROBE, *options]))
    assert name in (working_folder / "latest").resolve().name
    lapel.evaluate(EvaluateConfig(report=False))
    lapel.export(ExportConfig())
    bundle = lapel.load("latest/bundle")
    sizes = [bundle.embed(np.zeros((side, 40, 3), np.uint8)) for side in (20, 32, 90)]
    assert {each.shape for each in sizes} == {(1, bundle.manifest["embedding"])}


def test_a_frozen_trunk_stays_as_it_is_and_its_head_learns(state: dict[str, Tensor], working_folder: Path):
    torch.save(state, "weights.pth")
    options = ["encoder=trunk", f"encoder.name={SMALL}", "encoder.weights=weights.pth", "encoder.frozen=[all]"]
    lapel.train(lapel.compose("train", [*WARDROBE, *options, "encoder.embedding=8"]), working_folder / "run")
    trained = states(working_folder / "run")
    trunk = {name.removeprefix("encoder.trunk.model."): tensor for name, tensor in trained.items() if ".trunk." in name}
    assert trunk
    assert all(torch.equal(tensor, state[name]) for name, tensor in trunk.items())
    # A run brings its weights itself.
    Path("weights.pth").unlink()
    assert lapel.evaluate(EvaluateConfig(run=str(working_folder / "run"), report=False))["recall@1"] > 0


def test_the_trunk_has_its_own_learning_rate(state: dict[str, Tensor], working_folder: Path):
    torch.save(state, "weights.pth")
    options = ["encoder=trunk", f"encoder.name={SMALL}", "encoder.weights=weights.pth", "encoder.trunk_lr=0"]
    lapel.train(lapel.compose("train", [*WARDROBE, *options]), working_folder / "run")
    trained = states(working_folder / "run")
    weights = {name: tensor for name, tensor in trained.items() if ".trunk." in name and "running" not in name}
    assert all(
        torch.equal(each, state[name.removeprefix("encoder.trunk.model.")])
        for name, each in weights.items()
        if each.ndim > 1
    )
    assert any("running_mean" in name for name in trained)


def test_a_pretrained_encoder_is_scored_without_a_run(state: dict[str, Tensor], working_folder: Path):
    torch.save(state, "weights.pth")
    overrides = ["data=wardrobe", "data.items=40", "data.views=4", "data.size=32", "encoder=trunk"]
    config = lapel.compose("evaluate", [*overrides, f"encoder.name={SMALL}", "encoder.weights=weights.pth"])
    result = lapel.evaluate(config)
    assert lapel.evaluate(config)["map@r"] == result["map@r"]
    (first, _) = sorted((working_folder / "runs").glob("wardrobe-pretrained-*"))
    assert (first / "evaluation" / "metrics.json").is_file()
    assert result["protocol"]["encoder"]["weights"] == "weights.pth"
    assert not (working_folder / "latest").exists()


def test_parts_of_a_trunk_can_be_frozen(working_folder: Path):
    options = [*WARDROBE, "encoder=trunk", f"encoder.name={SMALL}", "encoder.frozen=[conv_stem,bn1,blocks.0]"]
    config = lapel.compose("train", options)
    torch.manual_seed(config.seed)
    lapel.train(config, working_folder / "run")
    encoder = build(config.encoder, config.data, Metric.cosine)
    assert not encoder.trunk.get_submodule("model.blocks.0").training
    assert encoder.trunk.get_submodule("model.blocks.1").training
    first = {name: each for name, each in states(working_folder / "run").items() if "blocks.0" in name}
    assert all("num_batches" not in name or each == 0 for name, each in first.items())
    with pytest.raises(
        LapelError, match=r"encoder\.frozen=block\.7: the trunk has no such part; it has all, conv_stem"
    ):
        build_trunk_with(["block.7"])


def build_trunk_with(frozen: list[str]) -> None:
    build(trunk_config(frozen=frozen), WardrobeConfig(size=32), Metric.cosine)


# --------------------------------------------------------------------------------------------------- warm start


TINY_NET = ["encoder.widths=[8,16]", "encoder.embedding=16"]


def test_a_warm_start_takes_over_the_encoder_of_a_run_or_bundle(working_folder: Path):
    lapel.train(lapel.compose("train", [*WARDROBE, *TINY_NET]), working_folder / "first")
    lapel.export(ExportConfig(run="first"))
    for origin in ("first", "first/bundle"):
        run = working_folder / f"from-{origin.replace('/', '-')}"
        begun = [*WARDROBE, *TINY_NET, f"init={origin}", "optim.lr=1e-12", "optim.weight_decay=0", "data.items=44"]
        lapel.train(lapel.compose("train", begun), run)
        first, second = states(working_folder / "first"), states(run)
        for name in ("encoder.trunk.layers.0.convolution.weight", "encoder.head.weight"):
            torch.testing.assert_close(second[name], first[name], atol=1e-6, rtol=0)
        (classifier,) = (name for name in first if name.endswith("classifier.weight"))
        assert not torch.equal(second[classifier], first[classifier])


def test_another_embedding_begins_anew_and_another_trunk_is_refused(
    working_folder: Path, caplog: pytest.LogCaptureFixture
):
    lapel.train(lapel.compose("train", [*WARDROBE, *TINY_NET]), working_folder / "first")
    with caplog.at_level("INFO", logger="lapel"):
        lapel.train(lapel.compose("train", [*WARDROBE, "init=first", "encoder.widths=[8,16]", "encoder.embedding=24"]))
    assert "the embedding, of another shape, begins anew" in caplog.text
    with pytest.raises(LapelError, match=r"init=first: its trunk is not this encoder's: \d+ weights differ"):
        lapel.train(lapel.compose("train", [*WARDROBE, "init=first", "encoder.widths=[8,24]"]))
    with pytest.raises(LapelError, match=r"init=nowhere: .*no such run folder"):
        lapel.train(lapel.compose("train", [*WARDROBE, "init=nowhere"]))


# ---------------------------------------------------------------------------------------------- every encoder


ENCODERS = sorted(each.stem for each in (Path(__file__).parent.parent / "conf" / "encoder").glob("*.yaml"))

# Sides that are multiples of 14 and of 16, for transformers, and large enough for every network.
SIZE = 112


@pytest.mark.slow
@pytest.mark.parametrize("channels", [3])
@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_trains_saves_loads_and_exports(name: str, channels: int, working_folder: Path):
    options = ["data=wardrobe", "data.items=12", "data.views=4", f"data.size={SIZE}", f"data.channels={channels}"]
    options += ["data.batch_size=4", "sampler.images=2", "trainer=cpu", "trainer.max_steps=2", f"encoder={name}"]
    lapel.train(lapel.compose("train", options), working_folder / "run")
    lapel.export(ExportConfig(run=str(working_folder / "run")))
    bundle = lapel.load(working_folder / "run" / "bundle")
    assert bundle.search_row(0, 3).shape[0] == 3


def test_mirrored_embeddings_are_the_mean_of_the_image_s_and_its_mirror_image_s(working_folder: Path):
    folder = working_folder / "run"
    lapel.train(lapel.compose("train", [*WARDROBE, "encoder.widths=[8,16]", "encoder.mirror=true"]), folder)
    run = open_run(str(folder), Checkpoint.best)
    images = torch.randint(0, 256, (5, 3, 40, 32), dtype=torch.uint8)
    encoder = run.encoder()
    both = encoder(images)
    torch.testing.assert_close(both, encoder(images.flip(3)))
    encoder.mirror = False
    fitted = encoder.preprocess.fit(images)
    raw = (encoder.raw(fitted) + encoder.raw(fitted.flip(3))) / 2
    torch.testing.assert_close(both, nn.functional.normalize(raw, dim=1))
    assert not torch.allclose(both, encoder(images), atol=1e-3)
    lapel.export(ExportConfig(run=str(folder)))
    exported = torch.jit.load(str(folder / "bundle" / "encoder.ts"))
    torch.testing.assert_close(exported(images), both, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pool", few_fast(["avg", "max", "gem"], ["gem"]))
@pytest.mark.parametrize("head", ["linear", "bn", "mlp"])
def test_pools_and_heads_train_export_and_take_grey_images(pool: str, head: str, working_folder: Path):
    options = [*WARDROBE, "data.channels=1", "encoder=trunk", "encoder.name=test_efficientnet", f"encoder.pool={pool}"]
    options += [f"encoder.head={head}", "encoder.embedding=8"]
    lapel.train(lapel.compose("train", options), working_folder / "run")
    lapel.export(ExportConfig(run=str(working_folder / "run")))
    assert lapel.load(working_folder / "run" / "bundle").embed([np.zeros((20, 30), np.uint8)]).shape == (1, 8)


@pytest.mark.parametrize("grid", [2, 3])
def test_cells_are_pooled_on_their_own(grid: int):
    maps = torch.rand(2, 5, 6, 6)
    size = 6 // grid
    cells = maps.unfold(2, size, size).unfold(3, size, size)  # [batch, features, grid, grid, size, size]
    torch.testing.assert_close(Average(grid)(maps), cells.mean((4, 5)).flatten(1))
    torch.testing.assert_close(Maximum(grid)(maps), cells.amax((4, 5)).flatten(1))
    expected = cells.pow(3).mean((4, 5)).pow(1 / 3).flatten(1)
    torch.testing.assert_close(GeneralizedMean(grid)(maps), expected)


@pytest.mark.parametrize("embedding", ["null", "8"])
def test_a_grid_of_cells_trains_and_exports(embedding: str, working_folder: Path):
    options = [*WARDROBE, "encoder.widths=[8,16]", "encoder.grid=2", f"encoder.embedding={embedding}"]
    lapel.train(lapel.compose("train", options), working_folder / "run")
    lapel.export(ExportConfig(run=str(working_folder / "run")))
    dimensions = 16 * 4 if embedding == "null" else 8
    images = [np.zeros((20, 30, 3), np.uint8)]
    assert lapel.load(working_folder / "run" / "bundle").embed(images).shape == (1, dimensions)


def test_a_grid_needs_maps():
    with pytest.raises(LapelError, match=r"encoder\.grid=2: needs encoder\.pool"):
        TrunkConfig(name=SMALL, grid=2)
    config = TrunkConfig(name=SMALL, grid=2, pool=Pool.max, embedding=None)
    encoder = build(config, DATA, Metric.cosine, with_weights=False).eval()
    assert encoder(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape == (2, encoder.dimensions)


def test_pools_are_what_they_say():
    maps = torch.rand(2, 5, 3, 4)
    torch.testing.assert_close(Average()(maps), maps.mean((2, 3)))
    torch.testing.assert_close(Maximum()(maps), maps.amax((2, 3)))
    torch.testing.assert_close(GeneralizedMean()(maps), maps.pow(3).mean((2, 3)).pow(1 / 3))
    learnt = GeneralizedMean()
    with torch.no_grad():
        learnt.power.fill_(1.0)
    torch.testing.assert_close(learnt(maps), maps.mean((2, 3)))


def test_the_pool_of_tokens_leaves_the_class_token_out():
    config = TrunkConfig(name="test_vit", pool=Pool.avg, embedding=None)
    trunk = build_trunk(config, DATA, with_weights=False).eval()
    with torch.inference_mode():
        maps = trunk(torch.rand(2, 3, 32, 32))
        tokens = trunk.get_submodule("model").forward_features(torch.rand(2, 3, 32, 32))  # type: ignore[operator]
    assert maps.shape == (2, 64, 1, 4)
    assert tokens.shape == (2, 5, 64)


def test_an_encoder_that_cannot_take_the_size_says_so():
    with pytest.raises(LapelError, match=r"encoder=inception_v3: cannot take images of data\.size=28x28 \("):
        build(TrunkConfig(name="inception_v3"), WardrobeConfig(size=28), Metric.cosine)
    with pytest.raises(LapelError, match=r"cannot take images of data\.size=80x60: sides must be multiples of 16"):
        build(TrunkConfig(name="vit_tiny_patch16_224"), WardrobeConfig(size="80x60"), Metric.cosine)


def test_auxiliary_classifiers_of_published_weights_are_left_out(tmp_path: Path):
    from torchvision import models

    state = models.googlenet(aux_logits=True, init_weights=False).state_dict()
    assert any(name.startswith("aux1") for name in state)
    torch.save(state, tmp_path / "googlenet.pth")
    config = TrunkConfig(library=Library.torchvision, name="googlenet", weights=str(tmp_path / "googlenet.pth"))
    trunk = build_trunk(config, DATA, with_weights=True)
    assert torch.equal(trunk.state_dict()["model.conv1.conv.weight"], state["conv1.conv.weight"])
    assert trunk.get_submodule("model").transform_input
