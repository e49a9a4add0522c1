"""Trunks: the part of an encoder from standardised images to features. lapel's own, timm's and torchvision's."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lapel.config import DataConfig, EncoderConfig, Library, TinyConfig, TrunkConfig
from lapel.errors import LapelError
from lapel.paths import user_path

# Keys named in a message about weights that do not fit.
SHOWN = 3

# Channels that oneDNN works on at once, on CPUs with AVX-512.
ONEDNN_BLOCK = 16

# What torchvision's weights were trained with (its presets' defaults).
IMAGENET_MEAN = [0.485, 0.456, 0.406]
IMAGENET_STD = [0.229, 0.224, 0.225]


class Trunk(nn.Module):
    """Standardised images `[batch, channels, height, width]` to features: `[batch, features]`, or maps to be pooled.

    Attributes:
        features: channels of the result.
        mean, std: with which its images are standardised, of each channel, in units of 0 to 1.
    """

    features: int
    mean: list[float]
    std: list[float]


class PointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution that looks at every stride-th pixel, which it picks out first.

    The same numbers; but oneDNN's gradient of a strided one with few channels in, channels last, writes past its memory
    (oneDNN issue 6035): wrong gradients, or a crash.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """`[batch, inputs, height, width]` to `[batch, outputs, height / stride, width / stride]`."""
        return F.conv2d(input[:, :, :: self.stride[0], :: self.stride[1]], self.weight, self.bias)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation and a shortcut (He et al. 2016, the basic block)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.convolution1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.convolution2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            pointwise = PointwiseConv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(pointwise, nn.BatchNorm2d(outputs))

    def forward(self, images: Tensor) -> Tensor:
        """`[batch, inputs, height, width]` to `[batch, outputs, height / stride, width / stride]`."""
        inner = F.relu(self.norm1(self.convolution1(images)), inplace=True)
        inner = self.norm2(self.convolution2(inner))
        return F.relu(inner + self.shortcut(images), inplace=True)


class TinyTrunk(Trunk):
    """A stem, and a residual block for each further width that halves the resolution: 7 convolutions by default.

    All blocks work below the full resolution of about 28x28, where a CPU does more of a convolution's work in a second.
    """

    def __init__(self, widths: list[int], channels: int, stride: int = 1) -> None:
        stem = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, stride, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)
        )
        blocks = (ResidualBlock(inputs, outputs, stride=2) for inputs, outputs in pairwise(widths))
        super().__init__()
        self.layers = nn.Sequential(stem, *blocks)
        self.features = widths[-1]
        self.mean, self.std = [0.5] * channels, [0.5] * channels

    def forward(self, images: Tensor) -> Tensor:
        """Maps `[batch, features, height / 2^n, width / 2^n]`."""
        return self.layers(images)


class SmallMapConv2d(nn.Conv2d):
    """A convolution with padding that pads small maps itself in training.

    oneDNN has no fast backward of a depthwise convolution on maps lower than its kernel, unless they come padded.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002
        if not self.training or input.shape[2] >= self.kernel_size[0]:
            return super()._conv_forward(input, weight, bias)
        above, beside = self.padding
        padded = F.pad(input, (int(beside), int(beside), int(above), int(above)))
        return F.conv2d(padded, weight, bias, self.stride, 0, self.dilation, self.groups)


def _mend(model: nn.Module) -> None:
    """Exchange the convolutions that oneDNN is slow or wrong at; nothing else about them changes."""
    for module in model.modules():
        if type(module) is nn.Conv2d:
            if _is_large_depthwise(module):
                module.__class__ = SmallMapConv2d
            elif _is_strided_pointwise(module):
                module.__class__ = PointwiseConv2d


def _is_strided_pointwise(module: nn.Conv2d) -> bool:
    single = module.kernel_size == (1, 1) and module.groups == 1 and module.padding in ((0, 0), "valid")
    return single and max(module.stride) > 1 and module.in_channels < ONEDNN_BLOCK


def _is_large_depthwise(module: nn.Conv2d) -> bool:
    pads_zeros = isinstance(module.padding, tuple) and module.padding_mode == "zeros"
    return pads_zeros and module.groups == module.in_channels > 1 and module.kernel_size[0] > 3


class LibraryTrunk(Trunk):
    """A model of timm or torchvision without its classifier; grey images are given to all three channels.

    Args:
        model: gives pooled features.
        features, mean, std: as in `Trunk`.
        maps: whether what the model has before its own pooling is given instead: timm's `forward_features`.
    """

    def __init__(
        self, model: nn.Module, features: int, mean: list[float], std: list[float], maps: bool = False
    ) -> None:
        super().__init__()
        _mend(model)
        self.model = model
        self.features = features
        self.mean = mean
        self.std = std
        self.maps = maps

    def forward(self, images: Tensor) -> Tensor:
        """Features `[batch, features]`, or maps `[batch, features, height, width]`."""
        images = images.expand(-1, 3, -1, -1)
        if not self.maps:
            return self.model(images)
        found = self.model.forward_features(images)  # type: ignore[operator]
        if found.dim() == 3:  # tokens: those of the image, without the class token, as one row of a map
            return found[:, getattr(self.model, "num_prefix_tokens", 0) :].transpose(1, 2).unsqueeze(2)
        return found.permute(0, 3, 1, 2) if getattr(self.model, "output_fmt", "NCHW") == "NHWC" else found


def build_trunk(config: EncoderConfig, data: DataConfig, with_weights: bool) -> Trunk:
    """The trunk of an encoder.

    Args:
        config: of the encoder.
        data: whose images it takes.
        with_weights: whether `encoder.weights` are loaded; not where a checkpoint's follow.

    Raises:
        LapelError: the model is not known, or its weights cannot be had or do not fit.
    """
    channels = data.channels
    match config:
        case TinyConfig():
            return TinyTrunk(config.widths, channels, config.stride)
        case TrunkConfig():
            trunk = (
                _timm_trunk(config, data, with_weights)
                if config.library is Library.timm
                else _vision_trunk(config, with_weights)
            )
            trunk.mean, trunk.std = trunk.mean[:channels], trunk.std[:channels]
            return trunk
        case _:
            raise TypeError(f"no trunk for {type(config).__name__}")


# ---------------------------------------------------------------------------------------------- parts of it


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


# ------------------------------------------------------------------------------------------------ libraries


def _timm_trunk(config: TrunkConfig, data: DataConfig, with_weights: bool) -> LibraryTrunk:
    import timm

    if not timm.is_model(config.name):
        near = timm.list_models(f"*{config.name}*")[:SHOWN] or timm.list_models(f"{config.name[:5]}*")[:SHOWN]
        raise LapelError(f"encoder.name={config.name}: timm has no such model{_like(near)}")
    online = with_weights and config.weights == "default"
    try:
        model: Any = timm.create_model(config.name, pretrained=online, num_classes=0)
    except Exception as error:  # the hub's client lets through whatever its requests meet
        if not online:
            raise
        raise LapelError(_offline(config, error)) from error
    if with_weights and config.weights not in ("none", "default"):
        load_weights(model, config.weights, str(model.pretrained_cfg.get("classifier") or ""))
    if hasattr(model, "set_input_size"):
        _fit_to_size(model, config, data)
    about = model.pretrained_cfg
    maps = config.pool is not None
    # Some models have one more layer after the maps that num_features counts.
    features = model.num_features if maps else getattr(model, "head_hidden_size", None) or model.num_features
    return LibraryTrunk(model, features, list(about["mean"]), list(about["std"]), maps)


def _fit_to_size(model: Any, config: TrunkConfig, data: DataConfig) -> None:
    """Interpolate a transformer's positions for images of another size than it was trained on.

    Raises:
        LapelError: its patches do not cover such images.
    """
    key = f"encoder.name={config.name}: cannot take images of data.size={data.height}x{data.width}"
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", (1, 1))
    if data.height % patch[0] or data.width % patch[1]:
        raise LapelError(f"{key}: sides must be multiples of {patch[0]} and {patch[1]}, its patches")
    try:
        model.set_input_size(img_size=tuple(data.size))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise LapelError(f"{key} ({' '.join(str(error).split())[:160]})") from error


# Models of torchvision with further classifiers for training, which an encoder has no use for.
WITH_AUXILIARY = ("googlenet", "inception_v3")
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")


def _vision_trunk(config: TrunkConfig, with_weights: bool) -> LibraryTrunk:
    from torchvision import models

    if config.name not in models.list_models(module=models):
        near = [name for name in models.list_models(module=models) if config.name[:5] in name][:SHOWN]
        raise LapelError(f"encoder.name={config.name}: torchvision has no such classification model{_like(near)}")
    if config.pool is not None:
        raise LapelError(f"encoder.pool={config.pool.name}: torchvision's models have their own; use library=timm")
    online = with_weights and config.weights == "default"
    options: dict[str, Any] = {}
    if config.name in WITH_AUXILIARY and not online:
        # Published weights expect images standardised as they were in TensorFlow; online, torchvision sees to it.
        options = {
            "aux_logits": False,
            "init_weights": with_weights and config.weights == "none",
            "transform_input": config.weights != "none",
        }
    try:
        model = models.get_model(config.name, weights="DEFAULT" if online else None, **options)
    except Exception as error:  # as above
        if not online:
            raise
        raise LapelError(_offline(config, error)) from error
    classifier = _last_linear(model)
    features = model.get_submodule(classifier).in_features
    assert isinstance(features, int)
    model.set_submodule(classifier, nn.Identity())
    if with_weights and config.weights not in ("none", "default"):
        load_weights(model, config.weights, classifier)
    return LibraryTrunk(model, features, IMAGENET_MEAN, IMAGENET_STD)


def _last_linear(model: nn.Module) -> str:
    """Name of the classifier: the last linear layer."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]


def _like(names: list[str]) -> str:
    return f"; it has {', '.join(names)}" if names else ""


def _offline(config: TrunkConfig, error: Exception) -> str:
    reason = " ".join(str(error).split())[:150]
    return (
        f"encoder.weights=default: the weights of {config.name} cannot be had ({reason}); "
        "give a file (.pth, .safetensors), or encoder.weights=none"
    )


# -------------------------------------------------------------------------------------------------- weights


def load_weights(model: nn.Module, file: str, classifier: str) -> None:
    """Load a file of weights into a model; all of them must fit but those of its classifier, which is gone.

    Args:
        model: without its classifier.
        file: .pth, .pt, .ckpt (tensors alone: no code in it is run) or .safetensors.
        classifier: name of the classifier in the file.

    Raises:
        LapelError: the file cannot be read, or its names or shapes differ; says which.
    """
    state = read_weights(file)
    if classifier:
        state = {name: tensor for name, tensor in state.items() if not name.startswith(f"{classifier}.")}
    wanted = model.state_dict()
    if not any(name.startswith(AUXILIARY) for name in wanted):
        state = {name: tensor for name, tensor in state.items() if not name.startswith(AUXILIARY)}
    problems = [
        ("missing in the file", sorted(set(wanted) - set(state))),
        ("not in the model", sorted(set(state) - set(wanted))),
        (
            "of another shape",
            [
                f"{name} {list(state[name].shape)} for {list(wanted[name].shape)}"
                for name in wanted
                if name in state and state[name].shape != wanted[name].shape
            ],
        ),
    ]
    told = [f"{what}: {', '.join(keys[:SHOWN])} ({len(keys)} in all)" for what, keys in problems if keys]
    if told:
        raise LapelError(f"encoder.weights={file}: does not fit the model; {'; '.join(told)}")
    model.load_state_dict(state, strict=True)


def read_weights(file: str) -> dict[str, Tensor]:
    """Name -> tensor of a file of weights, without a wrapping `state_dict` or a common prefix `module.`.

    Raises:
        LapelError: the file is missing or damaged, or holds something else.
    """
    path = user_path(file)
    if not path.is_file():
        raise LapelError(
            f"encoder.weights={file}: no such file; allowed are none, default, or a .pth or .safetensors file"
        )
    state = _read(path)
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not state or not all(isinstance(each, Tensor) for each in state.values()):
        raise LapelError(f"encoder.weights={file}: must hold named tensors, and nothing else")
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the parsers let through whatever they meet
        reason = " ".join(str(error).split()).partition(". ")[0][:200]
        told = "it is empty or cut short" if isinstance(error, EOFError) else f"{type(error).__name__}: {reason}"
        raise LapelError(f"encoder.weights={path}: cannot be read as tensors ({told})") from error
