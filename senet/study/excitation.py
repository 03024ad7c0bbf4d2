"""The excitation lab on a trained network and images in folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from senet.analysis.lab.excite import excite
from senet.analysis.lab.result import Excitation
from senet.train.apply import images_of, readable
from senet.train.data import make_loader
from senet.train.trained import Trained

__all__ = ["excite_trained"]


def excite_trained(
    trained: Trained,
    data: Path | None = None,
    *,
    name: str,
    chosen: Sequence[str] | None = None,
    blocks: str = "*",
    limit: int = 2000,
    portraits: int = 4,
    progress: Callable[[str, int, int], None],
) -> Excitation:
    """Looks at the gates of a trained network, on the GPU where there is one.

    Args:
        trained: the network.
        data: images in class folders; None: those held out in its training.
        name: how the results call the network.
        chosen: as the other arguments, see :func:`senet.analysis.lab.excite.excite`.
        blocks: a glob.
        limit: of the images that leave-one-out runs on.
        portraits: how many single images to look at.
        progress: is told what is done, and how much of how much.

    Raises:
        InputError: as :func:`senet.train.apply.images_of` and :func:`senet.analysis.lab.excite.excite`.
    """
    images = images_of(trained, data, progress=lambda done, total: progress("decoding images", done, total))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loader = make_loader(images, trained.data, train=False, seed=0, device=device)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        done = 0
        for batch in loader.batches(0):
            progress("recording gates", done, len(images))
            yield batch
            done += len(batch[1])

    # Of a network whose classes nobody names, the folders say how they are called.
    classes = readable(trained.classes) if trained.named else images.classes
    return excite(
        trained.model.to(device),
        batches(),
        classes,
        name=name,
        chosen=chosen,
        blocks=blocks,
        limit=limit,
        portraits=portraits,
        progress=lambda done, total: progress("leaving gates out", done, total),
    )
