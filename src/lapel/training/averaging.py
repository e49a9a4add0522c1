"""The running mean of the weights (EMA), which is validated and exported in their place."""

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lapel.encoders.encoder import Encoder


class AveragedWeights(nn.Module):
    """Exponential running means of an encoder, its statistics included, and of what losses learn.

    After each step the mean keeps `decay` of its old value (Polyak & Juditsky 1992; Tarvainen & Valpola, "Mean
    teachers", NeurIPS 2017).

    Args:
        encoder, losses: whose weights are averaged.
        decay: share of the old value.
    """

    def __init__(self, encoder: Encoder, losses: nn.ModuleDict, decay: float) -> None:
        super().__init__()
        mean = get_ema_multi_avg_fn(decay)
        self.means = AveragedModel(_together(encoder, losses), multi_avg_fn=mean, use_buffers=True)
        self.means.requires_grad_(requires_grad=False)

    @property
    def encoder(self) -> Encoder:
        """With the averaged weights."""
        return self.means.module.get_submodule("encoder")  # type: ignore[return-value]

    def update(self, encoder: Encoder, losses: nn.ModuleDict) -> None:
        """Take in the weights after a step."""
        self.means.update_parameters(_together(encoder, losses))


def _together(encoder: Encoder, losses: nn.ModuleDict) -> nn.ModuleDict:
    return nn.ModuleDict({"encoder": encoder, "losses": losses})
