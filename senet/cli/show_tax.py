"""The tax of squeeze-and-excitation on the terminal."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from rich.table import Table

from senet.analysis.tax.tax import Network, Price, Tax
from senet.analysis.wording import plural
from senet.cli.show import console

__all__ = ["print_sites", "print_tax"]

_MIB = 2**20


def print_tax(name: str, tax: Tax) -> None:
    """Times as ratios with their spread, then what was counted of every network."""
    setting = tax.setting
    what = "a training step" if setting.train else "inference"
    console.print(f"{name} with {plural(len(tax.sites), 'gated map')}, against its twin without:")
    console.print(f"{what}, batch {setting.batch}, {setting.size}x{setting.size}, {setting.dtype}, {setting.layout}")
    threads = "" if setting.on_cuda else f", {plural(tax.threads, 'thread')}"
    console.print(f"{tax.machine}{threads}; torch {tax.torch}; {plural(len(tax.networks[0].seconds), 'round')}")
    console.print()
    console.print(_times(tax))
    if tax.control:
        console.print("alike: the twin is prepared in the same way; what the gates themselves still cost.")
    console.print()
    console.print(_counts(tax))
    for note in _notes(tax):
        console.print(note)


def print_sites(tax: Tax) -> None:
    """Prints the cost that each gate adds, a table for each way whose operators can be counted."""
    for network in tax.networks:
        if not (network.gated and network.extra):
            continue
        table = _table(f"{network.way}: at", "map", "added", "moved, MiB", "launches")
        if tax.setting.train:
            table.add_column("kept, MiB", justify="right")
        for site, more in zip(tax.sites, network.extra, strict=True):
            cells = [site.path or "the network", "x".join(map(str, site.shape))]
            cells += [_passes(more.forward, more.backward, tax), f"{more.moved / _MIB:+,.2f}", f"{more.launches:+d}"]
            table.add_row(*cells, *([] if more.kept is None else [f"{more.kept / _MIB:+,.2f}"]))
        console.print()
        console.print(table)


def _times(tax: Tax) -> Table:
    table = _table("SE", "plain", "SE, ms", "plain, ms", "ratio", "95 %", "quartiles")
    table.columns[1].justify = "left"
    for price in tax.prices:
        table.add_row(*_price(price, tax))
    if tax.control:
        table.add_row("alike:", style="dim")
    for price in tax.control:
        table.add_row(*_price(price, tax))
    return table


def _price(price: Price, tax: Tax) -> list[str]:
    pair = (tax.network(price.way, gated=True), tax.network(price.twin, gated=False))
    times = [f"{1000 * statistics.median(network.seconds):,.1f}" for network in pair]
    ends = [(price.ratio.low, price.ratio.high), price.quartiles]
    return [price.way, price.twin, *times, f"{price.ratio.median:.2f}", *(f"{a:.2f}–{b:.2f}" for a, b in ends)]


def _counts(tax: Tax) -> Table:
    table = _table("network", "added", "moved, MiB", "launches", "parameters")
    if tax.setting.train:
        table.add_column("kept, MiB", justify="right")
    if tax.setting.on_cuda:
        table.add_column("peak, MiB", justify="right")
    for network in tax.networks:
        table.add_row(*_counted(network, tax))
    return table


def _counted(network: Network, tax: Tax) -> list[str]:
    passes = network.passes()
    cells = [f"{network.way} {'SE' if network.gated else 'plain'}", "-" if passes is None else _passes(*passes, tax)]
    cells += [_mib(network.moved), "-" if network.launches is None else f"{network.launches:,}"]
    cells += [f"{network.parameters:,}"]
    cells += [_mib(network.kept)] if tax.setting.train else []
    return cells + ([_mib(network.peak)] if tax.setting.on_cuda else [])


def _notes(tax: Tax) -> Sequence[str]:
    both, optimizer, kept = "", "", ""
    if tax.setting.train:
        both, optimizer = " (forward / backward)", ", the optimizer's left out"
        kept = "; kept: by autograd, for backward"
    notes = [
        f"added: passes over a gate's own map{both}, more than in the eager twin, all gates.",
        f"moved: bytes that operators read and write{optimizer}{kept}.",
    ]
    if any(network.moved is None for network in tax.networks):
        notes.append("-: compiled and exported networks have no operators to count.")
    if not tax.setting.on_cuda:
        notes.append("Peak memory is measured on CUDA devices alone.")
    notes += [f"Left out: {way}, as {reason}." for way, reason in tax.left_out]
    notes += [f"Still gated in the twin: {path} ({reason})." for path, reason in tax.gates_left]
    return notes


def _passes(forward: float, backward: float, tax: Tax) -> str:
    return f"{forward:+.4g} / {backward:+.4g}" if tax.setting.train else f"{forward:+.4g}"


def _mib(count: int | None) -> str:
    return "-" if count is None else f"{count / _MIB:,.1f}"


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", overflow="fold")
    return table
