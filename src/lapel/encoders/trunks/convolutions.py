"""Convolutions that oneDNN, which computes them on CPUs, is slow or wrong at, computed in another way."""

import torch.nn.functional as F
from torch import Tensor, nn

# Channels that oneDNN works on at once, on CPUs with AVX-512.
ONEDNN_BLOCK = 16


class PointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution that looks at every stride-th pixel, which it picks out first.

    The same numbers; but oneDNN's gradient of a strided one with few channels in, channels last, writes past its memory
    (oneDNN issue 6035): wrong gradients, or a crash.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """`[batch, inputs, height, width]` to `[batch, outputs, height / stride, width / stride]`."""
        return F.conv2d(input[:, :, :: self.stride[0], :: self.stride[1]], self.weight, self.bias)


class PatchConv2d(nn.Conv2d):
    """A 2x2 convolution of stride 2: one matrix product, with patches of four pixels as its rows.

    The same numbers. oneDNN takes two to four times as long on maps of 4x4, whose gradients it has no fast code for.
    A map of odd sides gets zeros at its right and lower edges.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 2, 2, bias=False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """`[batch, inputs, height, width]` to `[batch, outputs, height / 2, width / 2]`, rounded up."""
        maps = F.pad(input, (0, input.shape[3] % 2, 0, input.shape[2] % 2))
        batch, channels, height, width = maps.shape
        rows = maps.permute(0, 2, 3, 1).reshape(batch, height // 2, 2, width // 2, 2, channels).transpose(2, 3)
        filters = self.weight.permute(0, 2, 3, 1).reshape(self.out_channels, 4 * channels)
        found = F.linear(rows.reshape(batch * height * width // 4, 4 * channels), filters)
        return found.view(batch, height // 2, width // 2, self.out_channels).permute(0, 3, 1, 2)


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


def mend(model: nn.Module) -> None:
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
