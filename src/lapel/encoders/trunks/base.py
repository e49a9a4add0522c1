"""What every trunk is."""

from torch import nn


class Trunk(nn.Module):
    """Standardised images `[batch, channels, height, width]` to features: `[batch, features]`, or maps to be pooled.

    Attributes:
        features: channels of the result.
        mean, std: with which its images are standardised, of each channel, in units of 0 to 1.
    """

    features: int
    mean: list[float]
    std: list[float]
