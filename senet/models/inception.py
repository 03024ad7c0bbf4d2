"""Parts of the Inception networks: convolutions with norm, and branches side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from senet.models.conv import ConvNormAct, Kernel

__all__ = ["Mixed", "Step", "conv_norm_act", "convolutions"]

Step = Mapping[str, nn.Module]  # modules by name that all take the same map


conv_norm_act = partial(ConvNormAct, eps=1e-3)  # the eps of TensorFlow's release, and so of timm and torchvision


def convolutions(inputs: int, *layers: tuple[int, Kernel], halve: bool = False) -> list[ConvNormAct]:
    """Convolutions that follow each other and keep the map's size; the last halves it, without padding, if told so.

    Args:
        inputs: channels of the map.
        layers: each its outputs and kernel.
        halve: whether the last one has stride 2.
    """
    result = []
    for number, (outputs, kernel) in enumerate(layers, 1):
        stride, padding = (2, 0) if halve and number == len(layers) else (1, None)
        result.append(conv_norm_act(inputs, outputs, kernel, stride=stride, padding=padding))
        inputs = outputs
    return result


class Mixed(nn.Module):
    """An Inception module: branches that take the same map, their maps one after the other, and a block ``se`` on them.

    The block on the whole of the module's output is the paper's SE-Inception (arXiv 1709.01507v4, Fig. 2).

    Args:
        branches: each the steps it takes, from first to last. All modules become children by their names; a step of
            several modules, which only the last can be, puts out a map each.
        se: the block, or None.

    Shapes: (N, C, H, W) -> (N, sum of the branches' channels, H', W').
    """

    def __init__(self, branches: Sequence[Sequence[Step]], *, se: nn.Module | None) -> None:
        super().__init__()
        self.branches = [[tuple(step) for step in branch] for branch in branches]
        for branch in branches:
            for step in branch:
                for name, module in step.items():
                    self.add_module(name, module)
        self.se = se

    def concatenation(self, x: Tensor) -> Tensor:
        """Concatenates the outputs of the branches along the channels."""
        maps: list[Tensor] = []
        for branch in self.branches:
            branch_maps = [x]
            for step in branch:
                branch_maps = [getattr(self, name)(branch_maps[0]) for name in step]
            maps += branch_maps
        return torch.cat(maps, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.concatenation(x)
        return y if self.se is None else self.se(y)
