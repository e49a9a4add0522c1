"""What can be known of a run's encoder before its data is there."""

from lapel.config.encoder import TrunkConfig
from lapel.config.train import TrainConfig
from lapel.encoders.encoder import Encoder, build, try_out
from lapel.encoders.trunks import frozen_except
from lapel.encoders.trunks.weights import find_weights


def check_encoder(config: TrainConfig) -> None:
    """Raise where a run's encoder cannot be: its model, its parts, its weights' file, or the images that it is to take.

    Nothing is fetched, and no weights are read.
    """
    if isinstance(config.encoder, TrunkConfig) and config.encoder.weights not in ("none", "default"):
        find_weights(config.encoder.weights)
    check_stages(build(config.encoder, config.data, config.variant.metric, with_weights=False), config)


def check_stages(encoder: Encoder, config: TrainConfig) -> None:
    """Raise where a stage names a part that the trunk does not have, or a size of images that it cannot take."""
    for number, stage in enumerate(config.stages):
        if stage.unfrozen is not None:
            frozen_except(encoder.trunk, stage.unfrozen, f"stages.{number}.unfrozen")
        if stage.size is not None:
            try_out(encoder, config.encoder, f"stages.{number}.size", config.data.channels, stage.size)
