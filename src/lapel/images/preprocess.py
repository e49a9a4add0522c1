"""What happens to uint8 images of any size before the trunk sees them, in training and in a bundle alike."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lapel.config.data import Invert, Resize

# The frame of a photo counts as white paper from this mean grey level on.
WHITE_LEVEL = 200.0


class Preprocess(nn.Module):
    """uint8 images of any size and 1 or 3 channels to what the trunk wants. Scriptable.

    Grey from RGB is Pillow's `L` (ITU-R 601 luma, the same integers). Resizing is done in uint8, bilinear with
    antialias, on the CPU: there torch has uint8 kernels, which agree with Pillow's, on noise to one level.

    Args:
        height, width: that the trunk sees, in pixels.
        channels, resize: as in `DataConfig`.
        mean, std: of each channel, in units of 0 to 1.
        invert: as in `ExportOptions`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        height: int,
        width: int,
        channels: int,
        resize: Resize,
        mean: list[float],
        std: list[float],
        invert: Invert = Invert.never,
    ) -> None:
        super().__init__()
        self.height = height
        self.width = width
        self.channels = channels
        self.pad = resize is Resize.pad
        self.invert_always = invert is Invert.always
        self.invert_white = invert is Invert.white_background
        self.white_level = WHITE_LEVEL
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1) * 255, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 `[batch, 1 or 3, height, width]` to float32 `[batch, channels, height, width]`, standardised."""
        return self.standardise(self.fit(images))

    def standardise(self, images: Tensor) -> Tensor:
        """uint8 to float32 with the trunk's mean and standard deviation."""
        return (images.float() - self.mean) / self.std

    def fit(self, images: Tensor) -> Tensor:
        """uint8 of any size and channels to uint8 `[batch, channels, height, width]`."""
        images = self.convert(images)
        if images.shape[2] != self.height or images.shape[3] != self.width:
            device = images.device
            images = self.resize(images.cpu()).to(device)
        return images

    def convert(self, images: Tensor) -> Tensor:
        """The encoder's channels, and a negative where asked for."""
        if images.dtype != torch.uint8:
            raise ValueError("images must be uint8")
        if images.dim() != 4 or (images.shape[1] != 1 and images.shape[1] != 3):
            raise ValueError("images must be [batch, 1 or 3, height, width]")
        if images.shape[1] == 3 and self.channels == 1:
            wide = images.int()
            luma = wide[:, 0] * 19595 + wide[:, 1] * 38470 + wide[:, 2] * 7471 + 32768
            images = (luma // 65536).to(torch.uint8).unsqueeze(1)
        elif images.shape[1] == 1 and self.channels == 3:
            images = images.expand(-1, 3, -1, -1)
        if self.invert_always:
            images = 255 - images
        elif self.invert_white:
            white = self.frame(images).mean(dim=(1, 2)) >= self.white_level
            images = torch.where(white.view(-1, 1, 1, 1), 255 - images, images)
        return images

    def frame(self, images: Tensor) -> Tensor:
        """float32 `[batch, channels, pixels]`: the outermost pixels of each image."""
        edges = [images[:, :, 0, :], images[:, :, -1, :], images[:, :, :, 0], images[:, :, :, -1]]
        return torch.cat(edges, dim=2).float()

    def resize(self, images: Tensor) -> Tensor:
        """uint8 to uint8 `[batch, channels, height, width]`, stretched or fitted into the frame's mean colour."""
        if not self.pad:
            return F.interpolate(images, [self.height, self.width], mode="bilinear", antialias=True)
        scale = min(self.height / images.shape[2], self.width / images.shape[3])
        height = max(1, int(images.shape[2] * scale + 0.5))
        width = max(1, int(images.shape[3] * scale + 0.5))
        colour = self.frame(images).mean(dim=2).round().to(torch.uint8)
        canvas = colour.view(-1, self.channels, 1, 1).repeat(1, 1, self.height, self.width)
        top, left = (self.height - height) // 2, (self.width - width) // 2
        canvas[:, :, top : top + height, left : left + width] = F.interpolate(
            images, [height, width], mode="bilinear", antialias=True
        )
        return canvas
