"""Trunks of timm and torchvision: any of their models, without its classifier."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from textwrap import shorten
from typing import Any

from torch import Tensor, nn

from lapel.config.data import DataConfig
from lapel.config.encoder import Library, TrunkConfig
from lapel.encoders.trunks.base import Trunk
from lapel.encoders.trunks.convolutions import mend
from lapel.encoders.trunks.weights import load_weights
from lapel.errors import LapelError

logger = logging.getLogger(__name__)

# Names shown of models that are like one that is not known.
SHOWN = 3

# The longest reason of a hub's that is passed on to the user.
LONGEST = 150

# What torchvision's weights were trained with (its presets' defaults).
IMAGENET_MEAN = [0.485, 0.456, 0.406]
IMAGENET_STD = [0.229, 0.224, 0.225]

# Models of torchvision with further classifiers for training, which an encoder has no use for.
WITH_AUXILIARY = ("googlenet", "inception_v3")


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
        mend(model)
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


def library_trunk(config: TrunkConfig, data: DataConfig, with_weights: bool) -> LibraryTrunk:
    """The trunk of a library's model, for the images of a data set; see `build_trunk`."""
    trunk = (
        _timm_trunk(config, data, with_weights)
        if config.library is Library.timm
        else _vision_trunk(config, with_weights)
    )
    trunk.mean, trunk.std = trunk.mean[: data.channels], trunk.std[: data.channels]
    return trunk


def _timm_trunk(config: TrunkConfig, data: DataConfig, with_weights: bool) -> LibraryTrunk:
    import timm

    if not timm.is_model(config.name):
        near = timm.list_models(f"*{config.name}*")[:SHOWN] or timm.list_models(f"{config.name[:5]}*")[:SHOWN]
        raise LapelError(f"encoder.name={config.name}: timm has no such model{_like(near)}")
    online = with_weights and config.weights == "default"
    with _fetched(config) if online else nullcontext():
        model: Any = timm.create_model(config.name, pretrained=online, num_classes=0)
    if with_weights and config.weights not in ("none", "default"):
        classifiers = model.pretrained_cfg.get("classifier") or ()
        load_weights(model, config.weights, (classifiers,) if isinstance(classifiers, str) else tuple(classifiers))
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
            "init_weights": with_weights and not config.pretrained,
            "transform_input": config.pretrained,
        }
    with _fetched(config) if online else nullcontext():
        model = models.get_model(config.name, weights="DEFAULT" if online else None, **options)
    classifier = _last_linear(model)
    features = model.get_submodule(classifier).in_features
    assert isinstance(features, int)
    model.set_submodule(classifier, nn.Identity())
    if with_weights and config.weights not in ("none", "default"):
        load_weights(model, config.weights, (classifier,))
    return LibraryTrunk(model, features, IMAGENET_MEAN, IMAGENET_STD)


def _last_linear(model: nn.Module) -> str:
    """Name of the classifier: the last linear layer."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]


def _like(names: list[str]) -> str:
    return f"; it has {', '.join(names)}" if names else ""


@contextmanager
def _fetched(config: TrunkConfig) -> Iterator[None]:
    """Weights come from a library's hub inside: what is in vain is told once, and not each time that it is tried again.

    Raises:
        LapelError: they cannot be had.
    """
    client = logging.getLogger("huggingface_hub")
    before = client.level
    client.setLevel(logging.ERROR)
    logger.info("encoder.weights=default: asks %s's hub for the weights of %s", config.library.name, config.name)
    try:
        yield
    except Exception as error:  # the hubs' clients let through whatever their requests meet
        raise LapelError(
            f"encoder.weights=default: the weights of {config.name} cannot be had ({_first_cause(error)}); "
            "give a file (.pth, .safetensors), or encoder.weights=none"
        ) from error
    finally:
        client.setLevel(before)


def _first_cause(error: BaseException) -> str:
    """What an exception comes from in the end, in a line."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return shorten(str(error) or type(error).__name__, LONGEST, placeholder=" …")
