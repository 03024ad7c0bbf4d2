"""What is measured: on a GPU, or tiny on the CPU to see that it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

__all__ = ["LAYOUTS", "Case", "Network", "Setting", "dry", "on_gpu"]

LAYOUTS = {"last": torch.channels_last, "first": torch.contiguous_format}


class Case(NamedTuple):
    """One line of results.

    Attributes:
        key: what tells it from all others of its part.
        measure: gives the rest of the line.
        seconds: that it may take; it is not begun with less time left.
    """

    key: dict[str, Any]
    measure: Callable[[], dict[str, Any]]
    seconds: float


class Network(NamedTuple):
    """One of timm's networks and its twin without SE; ``None``: the network stripped of its gates."""

    name: str
    twin: str | None
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What to measure, the most wanted first.

    Attributes:
        device: where.
        tests: what pytest is given.
        hosts: networks whose sites the sweeps are measured at.
        most: sites of each kind.
        batches: images at these sites.
        dtypes, layouts: of the maps.
        site_dtypes: of whole sites; torch's cuDNN form takes no bfloat16.
        networks: that are trained and run.
        batch: images of a training step.
        inference: images, and the mode of ``torch.compile``.
        size: pixels.
        rounds: times kept of each call.
        backend: of ``torch.compile``.
    """

    device: torch.device
    tests: tuple[str, ...]
    hosts: tuple[Network, ...]
    most: int
    batches: tuple[int, ...]
    dtypes: tuple[torch.dtype, ...]
    site_dtypes: tuple[torch.dtype, ...]
    layouts: tuple[str, ...] = ("last", "first")
    networks: tuple[Network, ...] = ()
    batch: int = 128
    inference: tuple[tuple[int, str | None], ...] = ((256, None), (1, "reduce-overhead"))
    size: int = 224
    rounds: int = 20
    backend: str = "inductor"

    @property
    def on_cuda(self) -> bool:
        """Whether it is a GPU."""
        return self.device.type == "cuda"

    def compiled(self, call: Any, mode: str | None = None) -> Any:
        """``torch.compile`` as it is wanted here; modes are of its usual backend alone."""
        return torch.compile(call, backend=self.backend, mode=mode if self.backend == "inductor" else None)

    def maps(self, dtypes: tuple[torch.dtype, ...]) -> Iterator[tuple[torch.dtype, str, int]]:
        """Dtype, layout and batch, the most wanted first: all batches in one layout before the next."""
        for dtype in dtypes:
            for layout in self.layouts:
                for batch in self.batches:
                    yield dtype, layout, batch


_PAIRS = (
    Network("seresnet50", "resnet50"),
    Network("seresnext101_32x4d", "resnext101_32x4d"),
    Network("efficientnet_b0", None),
)
_TESTS = ("tests/kernels", "tests/blocks/test_free.py", "tests/surgery/test_fuse.py", "-n", "8")


def on_gpu() -> Setting:
    """The whole, at the size that counts."""
    return Setting(
        device=torch.device("cuda"),
        tests=_TESTS,
        hosts=(*_PAIRS, Network("regnety_016", None)),
        most=99,
        batches=(128, 64, 256),
        dtypes=(torch.bfloat16, torch.float32),
        site_dtypes=(torch.bfloat16, torch.float16),
        networks=_PAIRS,
    )


def dry() -> Setting:
    """Every line of it in seconds, on the CPU."""
    small = Network("seresnet50", "resnet50", (("layers", (1, 1, 1, 1)), ("channels", (4, 4, 4, 8))))
    mobile = Network("mobilenetv3_small_050", None)
    return Setting(
        device=torch.device("cpu"),
        tests=("tests/kernels/test_reference.py",),
        hosts=(small, mobile),
        most=1,
        batches=(2,),
        dtypes=(torch.float32,),
        site_dtypes=(torch.float32,),
        layouts=("last",),
        networks=(small,),
        batch=2,
        inference=((2, None), (1, "reduce-overhead")),
        size=32,
        rounds=2,
        backend="eager",
    )
