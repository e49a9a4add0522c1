"""Random changes of training images, whole batches at once, on the device that holds them."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lapel.config.augment import AugmentConfig
from lapel.images.draws import key_of, uniform

# Streams of random numbers, apart from those of sampling and of the network: what is drawn for every image, what for
# photos, and on which side an image begins.
PLAIN_STREAM, PHOTO_STREAM, SIDE_STREAM = 1, 5, 6

# Weights of red, green and blue in grey (ITU-R 601).
LUMA = (0.299, 0.587, 0.114)

# Colours as brightness and two differences (YIQ, NTSC 1953): a turn of the last two changes the hue alone.
TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))

# Numbers drawn for each image: mirror, shift in both directions, corner of the erased square in both.
PLAIN_DRAWS = 5
# And where images are warped or recoloured: area, proportions, place in both directions, angle; then brightness,
# contrast, saturation, hue.
PHOTO_DRAWS = 9


class Augmentation:
    """Random changes of each image, with its own draw, as whole-batch operations.

    In this order: crop with rotation, mirror and shift, colour, erased square.

    Args:
        config: which changes, and how strong.
        seed: of the run. A draw depends on (seed, step, position in the global batch) alone, and with `alternate` on
            (seed, row, epoch), so that training is the same on any number of processes and after a resume.
        device: of the images.
    """

    def __init__(self, config: AugmentConfig, seed: int, device: torch.device | str = "cpu") -> None:
        self.config = config
        to_yiq = torch.tensor(TO_YIQ)
        constants = torch.tensor(LUMA), to_yiq, torch.linalg.inv(to_yiq)
        self.luma, self.to_yiq, self.from_yiq = (each.to(device) for each in constants)
        self.plain, self.photo, self.side = (
            key_of(seed, stream) for stream in (PLAIN_STREAM, PHOTO_STREAM, SIDE_STREAM)
        )

    def __call__(self, images: Tensor, rows: Tensor, step: int | Tensor, epoch: int | Tensor, start: int = 0) -> Tensor:
        """Changed copies of uint8 `[batch, channels, height, width]`.

        Args:
            images: positions `start` to `start + batch` of the global batch.
            rows: int64 `[batch]`, of the images in the catalogue.
            step: number of the batch, counted from the start of training.
            epoch: that it belongs to.
            start: position of the first image in the global batch.
        """
        positions = torch.arange(start, start + len(images), device=images.device)
        plain = uniform(self.plain, step, positions, PLAIN_DRAWS)
        if self.config.warps or self.config.recolours:
            photo = uniform(self.photo, step, positions, PHOTO_DRAWS)
            floats = self._warp(images.float(), photo[:, :5]) if self.config.warps else images.float()
            floats = self._recolour(floats, photo[:, 5:]) if self.config.recolours else floats
            images = floats.round_().clamp_(0, 255).to(torch.uint8)
        images = self._mirror_and_shift(images, self._mirrored(plain[:, 0:1], rows, epoch), plain[:, 1:3])
        return self._erase(images, plain[:, 3:5]) if self.config.erase else images

    def _mirrored(self, draws: Tensor, rows: Tensor, epoch: int | Tensor) -> Tensor:
        """bool `[batch, 1]`: which images are mirrored."""
        if not self.config.alternate:
            return draws < self.config.flip
        begins_mirrored = uniform(self.side, 0, rows, 1) < self.config.flip
        return begins_mirrored != (epoch % 2 == 1)

    def _warp(self, images: Tensor, draws: Tensor) -> Tensor:
        """A crop of each image, turned, and resized to the whole, by one bilinear sampling.

        The crop's area is uniform and its proportions log-uniform, as in Szegedy et al. 2015 (torchvision's
        RandomResizedCrop); it lies anywhere inside the image.
        """
        config, (height, width) = self.config, images.shape[2:]
        area = config.crop + (1 - config.crop) * draws[:, 0]
        ratio = torch.exp((2 * draws[:, 1] - 1) * math.log1p(config.stretch))
        across = (area * ratio).sqrt().clamp(max=1)
        down = (area / ratio).sqrt().clamp(max=1)
        right = (2 * draws[:, 2] - 1) * (1 - across)
        below = (2 * draws[:, 3] - 1) * (1 - down)
        angle = (2 * draws[:, 4] - 1) * math.radians(config.rotate)
        cos, sin = angle.cos(), angle.sin()
        # In the coordinates of affine_grid, -1 to 1 along each side: a rotation has to know the sides' lengths.
        rows = [
            torch.stack([across * cos, -down * sin * height / width, right], dim=1),
            torch.stack([across * sin * width / height, down * cos, below], dim=1),
        ]
        grid = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)

    def _recolour(self, images: Tensor, draws: Tensor) -> Tensor:
        """Hue, saturation, contrast and brightness: all linear in the colours, so one matrix and offset an image."""
        config = self.config
        amounts = 2 * draws - 1
        brightness, contrast, saturation = (
            (1 + amount * most)[:, None, None]
            for amount, most in zip(
                amounts.unbind(1)[:3], (config.brightness, config.contrast, config.saturation), strict=True
            )
        )
        if images.shape[1] == 1:
            mean = images.mean(dim=(1, 2, 3))[:, None, None, None]
            return (mean + (images - mean) * contrast[..., None]) * brightness[..., None]
        grey = self.luma.expand(3, 3)  # a colour to its grey, three times
        same = torch.eye(3, device=images.device)
        mixed = saturation * same + (1 - saturation) * grey
        if config.hue:
            mixed = mixed @ (self.from_yiq @ _turns(amounts[:, 3] * config.hue) @ self.to_yiq)
        mean = (images.mean(dim=(2, 3)) @ self.luma)[:, None, None]
        matrix = mixed * contrast * brightness
        offset = (mean * (1 - contrast) * brightness).expand(-1, 3, 1)
        return torch.baddbmm(offset, matrix, images.flatten(2)).view_as(images)

    def _mirror_and_shift(self, images: Tensor, mirrored: Tensor, shift: Tensor) -> Tensor:
        """One gather of pixels from a zero-padded copy: rows are shifted, columns shifted and perhaps reversed."""
        reach, (height, width) = self.config.shift, images.shape[2:]
        if reach == 0 and self.config.flip == 0 and not self.config.alternate:
            return images
        offsets = (shift * (2 * reach + 1)).long()
        ys = offsets[:, 0:1] + torch.arange(height, device=images.device)
        xs = offsets[:, 1:2] + torch.arange(width, device=images.device)
        xs = torch.where(mirrored, xs.flip(1), xs)
        padded = F.pad(images, (reach, reach, reach, reach))
        flat = (ys * padded.shape[3])[:, :, None] + xs[:, None, :]
        flat = flat.view(len(images), 1, -1).expand(-1, images.shape[1], -1)
        return padded.flatten(2).gather(2, flat).view_as(images)

    def _erase(self, images: Tensor, corner: Tensor) -> Tensor:
        side, (height, width) = self.config.erase, images.shape[2:]
        top = (corner[:, 0:1] * (height - side + 1)).long()
        left = (corner[:, 1:2] * (width - side + 1)).long()
        ys = torch.arange(height, device=images.device)
        xs = torch.arange(width, device=images.device)
        rows = (ys >= top) & (ys < top + side)
        columns = (xs >= left) & (xs < left + side)
        return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def _turns(turns: Tensor) -> Tensor:
    """float32 `[batch, 3, 3]`: matrices that turn the last two coordinates, by shares of the whole circle."""
    cos, sin = (turns * 2 * math.pi).cos(), (turns * 2 * math.pi).sin()
    turn = torch.zeros(len(turns), 3, 3, device=turns.device)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = cos
    turn[:, 1, 2], turn[:, 2, 1] = -sin, sin
    return turn
