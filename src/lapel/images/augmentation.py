"""Random changes of training images, whole batches at once, on the device that holds them."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lapel.config import AugmentConfig

# Names of the independent streams of random numbers: each draw is a function of (seed, stream, step, position).
AUGMENT_STREAM = 1


class Augmentation:
    """Random mirror, shift and erased square, with its own draw for each image, as whole-batch operations.

    Args:
        config: which changes, and how strong.
        seed: of the run. A draw depends on (seed, step, position in the global batch) alone, so that training is the
            same on any number of processes and after a resume.
    """

    def __init__(self, config: AugmentConfig, seed: int) -> None:
        self.config = config
        self.seed = seed

    def __call__(self, images: Tensor, step: int, start: int, total: int) -> Tensor:
        """Changed copies of uint8 `[batch, channels, height, width]`.

        Args:
            images: positions `start` to `start + batch` of the global batch.
            step: optimizer step.
            start: position of the first image in the global batch.
            total: images of the global batch.
        """
        draws = np.random.default_rng([self.seed, AUGMENT_STREAM, step]).random((total, 5), dtype=np.float32)
        mine = torch.from_numpy(draws[start : start + len(images)]).to(images.device)
        images = self._mirror_and_shift(images, mine[:, 0:1], mine[:, 1:3])
        return self._erase(images, mine[:, 3:5]) if self.config.erase else images

    def _mirror_and_shift(self, images: Tensor, flip: Tensor, shift: Tensor) -> Tensor:
        """One gather of pixels from a zero-padded copy: rows are shifted, columns shifted and perhaps reversed."""
        reach, (height, width) = self.config.shift, images.shape[2:]
        if reach == 0 and self.config.flip == 0:
            return images
        offsets = (shift * (2 * reach + 1)).long()
        ys = offsets[:, 0:1] + torch.arange(height, device=images.device)
        xs = offsets[:, 1:2] + torch.arange(width, device=images.device)
        xs = torch.where(flip < self.config.flip, xs.flip(1), xs)
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
