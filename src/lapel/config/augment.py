"""Random changes of training images."""

from dataclasses import dataclass

from lapel.config.choices import choice
from lapel.config.options import Options, option


@choice("augment", "none")
@dataclass
class AugmentConfig(Options):
    """Random changes of the training images, with its own draw for each image."""

    flip: float = option(0.0, at_least=0, at_most=1)
    """Probability of a mirror image."""
    alternate: bool = False
    """Whether an image that is mirrored in one epoch is not in the next (Jordan 2024); `flip` is of the first epoch."""
    shift: int = option(0, at_least=0)
    """Largest shift in each direction, in pixels; what enters is black."""
    erase: int = option(0, at_least=0)
    """Side of a square that is blackened, in pixels."""
    crop: float = option(1.0, above=0, at_most=1)
    """Smallest share of the area that a random crop keeps, which is then resized to the whole."""
    stretch: float = option(0.0, at_least=0, at_most=1)
    """By how much a crop's proportions may differ from the image's: 0.33 for 3/4 to 4/3."""
    rotate: float = option(0.0, at_least=0, at_most=180)
    """Largest rotation in each direction, in degrees; what enters has the colour of the nearest border."""
    brightness: float = option(0.0, at_least=0, at_most=1)
    """Largest relative change of all levels."""
    contrast: float = option(0.0, at_least=0, at_most=1)
    """Largest relative change of the differences from the image's mean grey."""
    saturation: float = option(0.0, at_least=0, at_most=1)
    """Largest relative change of the differences from each pixel's grey."""
    hue: float = option(0.0, at_least=0, at_most=0.5)
    """Largest turn of the colour circle, of which 1 is the whole."""

    @property
    def warps(self) -> bool:
        """Whether pixels come to lie between others."""
        return self.crop < 1 or self.stretch > 0 or self.rotate > 0

    @property
    def recolours(self) -> bool:
        """Whether colours change."""
        return max(self.brightness, self.contrast, self.saturation, self.hue) > 0
