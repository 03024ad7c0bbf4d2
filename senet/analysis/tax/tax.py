"""Price of squeeze-and-excitation: a network beside its twin without it, timed in turn and counted exactly.

The paper promises +0.26 % of arithmetic for SE-ResNet-50; the price in time depends on the machine, the batch and the
way the network is run. Both networks are prepared in the same way, or the network in a better one and the twin as its
users have it; then the twin prepared alike is timed too, so that it can be seen what the gates still cost.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from senet.analysis.tax.arms import Arm, Setting, chosen_ways, prepare, twin_of
from senet.analysis.tax.counts import Counted, Extra, Site, count, extra, kept_by, sites_of
from senet.errors import InputError
from senet.measure import Ratio, device_name, in_turn, ratio
from senet.surgery.gating.strip import stripped

__all__ = ["Network", "Price", "Tax", "tax"]

_WARMUP = 2


@dataclass(frozen=True)
class Network:
    """One of the networks that were compared.

    Attributes:
        way: how it was prepared.
        gated: whether it has its gates, or is the twin without.
        seconds: that a step took, in the order of the rounds.
        parameters: trained numbers.
        launches: operators of a step, the optimizer's left out; None where it does not run operator by operator.
        moved: bytes that they read and write.
        kept: bytes that autograd keeps for backward, of compiled networks with the weights that were laid out anew;
            None in inference.
        peak: the most bytes allocated on a CUDA device during a step, the network's own included; None elsewhere.
        extra: what each site, in the order of :attr:`Tax.sites`, has more than in the plain twin run by PyTorch as it
            is; empty where operators cannot be counted.
    """

    way: str
    gated: bool
    seconds: tuple[float, ...]
    parameters: int
    launches: int | None
    moved: int | None
    kept: int | None
    peak: int | None
    extra: tuple[Extra, ...]

    def passes(self) -> tuple[float, float] | None:
        """The sum over all sites of extra passes, in forward and in backward."""
        return (sum(e.forward for e in self.extra), sum(e.backward for e in self.extra)) if self.extra else None


@dataclass(frozen=True)
class Price:
    """Ratio of a network's time to that of a twin.

    Attributes:
        way: how the network was prepared.
        twin: how the twin was.
        ratio: the median over rounds, with its 95 % interval.
        quartiles: the first and the third of the rounds' ratios.
    """

    way: str
    twin: str
    ratio: Ratio
    quartiles: tuple[float, float]


@dataclass(frozen=True)
class Tax:
    """A network's tax.

    Attributes:
        setting: what the networks were run for.
        machine: on which they were.
        torch: PyTorch's version.
        threads: of PyTorch on the CPU.
        sites: the gated maps.
        networks: all that were run.
        prices: for each way the one that its users pay; :attr:`control` has those against the twin prepared alike.
        control: for ways whose twin is prepared in another way; none where nothing in the twin could be.
        left_out: ways that were not asked for and cannot be had here, and why.
        gates_left: what looks like a gated map in the twin and is still there, and why: the price lacks it.
    """

    setting: Setting
    machine: str
    torch: str
    threads: int
    sites: tuple[Site, ...]
    networks: tuple[Network, ...]
    prices: tuple[Price, ...]
    control: tuple[Price, ...]
    left_out: tuple[tuple[str, str], ...]
    gates_left: tuple[tuple[str, str], ...]

    def network(self, way: str, *, gated: bool) -> Network:
        """The network that was prepared in a way."""
        return next(n for n in self.networks if (n.way, n.gated) == (way, gated))


def tax(
    model: nn.Module,
    *,
    train: bool = True,
    batch: int = 8,
    size: int = 224,
    device: str = "cpu",
    dtype: str = "float32",
    layout: str = "contiguous",
    ways: Sequence[str] | None = None,
    rounds: int = 10,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Tax:
    """Compares a network with its twin without squeeze-and-excitation.

    Times are taken in turn, all networks in every round, after two rounds that are not kept. What
    ``torch.compile`` has compiled before in this process is forgotten, so that no limit of its cache is met.

    Args:
        model: any network of images that surgery can read, on a CPU, ours or not; it is left alone.
        train: whether a step is one of training; this and the next are said by
            :class:`~senet.analysis.tax.arms.Setting`.
        batch: images.
        size: their height and width in pixels.
        device: where it runs.
        dtype: of autocast in training, of the weights in inference.
        layout: ``"contiguous"`` or ``"channels-last"``.
        ways: keys of :data:`~senet.analysis.tax.arms.WAYS`; None: all that can be had here.
        rounds: how many times of each network are kept.
        progress: is told what is done, how much of it, and of how much in total.

    Raises:
        InputError: the network has no gated map or does not take the images, or a way cannot be had.
    """
    if rounds < 1:
        raise InputError(f"rounds is {rounds}; accepted: 1 or more")
    if _is_detector(model):
        raise InputError(
            f"{type(model).__name__} is a detector, and what it does after its backbone depends on what it finds; give "
            "its .backbone, in which all gates are"
        )
    setting = Setting(train=train, batch=batch, size=size, device=device, dtype=dtype, layout=layout)
    names, left_out = chosen_ways(ways, setting)
    torch.compiler.reset()
    progress("looking for gates", 0, 1)
    twin, gates, gates_left = stripped(model)
    sites = sites_of(model, gates, setting)
    arms: dict[_Key, Arm] = {}
    peaks: dict[_Key, int | None] = {}
    priced = []
    for done, way in enumerate(names):
        progress(f"preparing {way}", done, len(names))
        for key in dict.fromkeys([(way, True), (twin_of(way), False), (way, False)]):
            before = torch.cuda.memory_allocated(device) if setting.on_cuda else 0
            try:
                arm = None if key in arms else prepare(model if key[1] else twin, key[0], setting, gated=key[1])
            except InputError as refusal:
                if ways is not None:
                    raise
                left_out.append((way, str(refusal)))
                break
            if arm is not None:
                arms[key], peaks[key] = arm, _peak(arm, before, setting)
        else:
            priced.append(way)
    seconds = _timed(arms, rounds, setting, progress)
    plain = prepare(twin, "eager", setting, gated=False)
    assert plain is not None
    plain_counts = count(plain, sites, setting)
    networks = []
    for done, (key, arm) in enumerate(arms.items()):
        progress(f"counting {arm.way}", done, len(arms))
        networks.append(_network(arm, seconds[key], peaks[key], plain_counts, sites, setting))
    return Tax(
        setting,
        device_name(torch.device(device)),
        torch.__version__,
        torch.get_num_threads(),
        tuple(sites),
        tuple(networks),
        tuple(_price(way, twin_of(way), seconds) for way in priced),
        tuple(_price(way, way, seconds) for way in priced if twin_of(way) != way and (way, False) in arms),
        tuple(left_out),
        tuple(gates_left),
    )


def _is_detector(model: nn.Module) -> bool:
    """Whether it is one of torchvision's, or ours; asked without importing torchvision."""
    module = sys.modules.get("torchvision.models.detection.generalized_rcnn")
    return module is not None and isinstance(model, module.GeneralizedRCNN)


_Key = tuple[str, bool]  # how a network is prepared, and whether it has its gates


def _peak(arm: Arm, before: int, setting: Setting) -> int | None:
    """Runs the first step, and gives the most bytes of the second: beyond those before the network was there."""
    arm.step()
    if not setting.on_cuda:
        return None
    torch.cuda.synchronize(setting.device)
    torch.cuda.reset_peak_memory_stats(setting.device)
    arm.step()
    torch.cuda.synchronize(setting.device)
    return torch.cuda.max_memory_allocated(setting.device) - before


def _timed(
    arms: Mapping[_Key, Arm], rounds: int, setting: Setting, progress: Callable[[str, int, int], None]
) -> dict[_Key, list[float]]:
    device = torch.device(setting.device)
    steps = {f"{way} {gated}": arm.step for (way, gated), arm in arms.items()}
    progress("warming up", 0, rounds)
    in_turn(steps, rounds=0, warmup=_WARMUP, device=device)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for done in range(0, rounds, 2):  # in_turn goes forwards and backwards, so by twos
        progress("timing", done, rounds)
        for name, taken in in_turn(steps, rounds=min(2, rounds - done), warmup=0, device=device).items():
            seconds[name] += taken
    return dict(zip(arms, seconds.values(), strict=True))


def _network(
    arm: Arm, seconds: Sequence[float], peak: int | None, plain: Counted, sites: Sequence[Site], setting: Setting
) -> Network:
    parameters = sum(p.numel() for p in arm.module.parameters())
    if not arm.countable:
        kept = kept_by(arm, setting) if setting.train else None
        return Network(arm.way, arm.gated, tuple(seconds), parameters, None, None, kept, peak, ())
    counted = count(arm, sites, setting)
    total, held = counted.total, None if counted.kept is None else counted.kept.bytes
    moved, more = total.read + total.written, tuple(extra(counted, plain, sites))
    return Network(arm.way, arm.gated, tuple(seconds), parameters, total.launches, moved, held, peak, more)


def _price(way: str, twin: str, seconds: Mapping[_Key, Sequence[float]]) -> Price:
    mine, theirs = seconds[way, True], seconds[twin, False]
    ratios = torch.tensor([a / b for a, b in zip(mine, theirs, strict=True)], dtype=torch.float64)
    first, third = ratios.quantile(torch.tensor([0.25, 0.75], dtype=torch.float64)).tolist()
    return Price(way, twin, ratio(mine, theirs), (first, third))
