"""The excitation lab's page, its figures as files, and its numbers."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from senet.analysis.gates import plots as gate_plots
from senet.analysis.gates.statistics import DEAD, SATURATED, STILL
from senet.analysis.html import png, require_plotting, write_page
from senet.analysis.lab import plots as lab_plots
from senet.analysis.lab.answer import answer, change, notes
from senet.analysis.lab.images import Portrait
from senet.analysis.lab.leave_out import Change, Effect
from senet.analysis.lab.result import Excitation
from senet.analysis.lab.statistics import similarity_order
from senet.analysis.plots import sampled
from senet.analysis.svg import SERIES, Plot
from senet.errors import InputError
from senet.files import write_whole

__all__ = ["check_folder", "panels", "write_excitation"]

_PANELS = 12  # blocks whose gates are drawn one by one
_ROWS = 24  # blocks in a picture of one image's gates


def write_excitation(found: Excitation, out: Path) -> list[Path]:
    """Writes ``excitation.html``, ``excitation.json``, and every figure as ``figures/NAME.svg`` and ``.pdf``.

    The page opens without a network. The same numbers give the same bytes; files that are there are replaced, each
    whole or not at all, and others are left alone.

    Args:
        found: from :func:`senet.analysis.lab.excite.excite`.
        out: the folder; made where there is none.

    Returns:
        The page and the numbers.

    Raises:
        InputError: the files cannot be written, or jinja2 or matplotlib is not installed.
    """
    figures = check_folder(out)
    plots = _plots(found)
    for file, plot in zip(_files(list(plots)), plots.values(), strict=True):
        for suffix in ("svg", "pdf"):
            write_whole(figures / f"{file}.{suffix}", plot.file(suffix))
    page, numbers = out / "excitation.html", out / "excitation.json"
    write_whole(numbers, (json.dumps(found.to_dict(), indent=1, allow_nan=False) + "\n").encode())
    write_page("excite.html.jinja", _view(found, {name: plot.inline() for name, plot in plots.items()}), page)
    return [page, numbers]


def _files(names: list[str]) -> list[str]:
    """A name of a file for each figure; of names that would be the same file, the later ones are numbered."""
    files: dict[str, str] = {}  # by what a file system that ignores case makes of them
    for name in names:
        plain = re.sub(r"[^0-9A-Za-z_.-]", "_", name)
        numbered = (f"{plain}-{number}" for number in itertools.count(2))
        file = next(file for file in itertools.chain([plain], numbered) if file.lower() not in files)
        files[file.lower()] = file
    return list(files.values())


def check_folder(out: Path) -> Path:
    """Makes the folder for :func:`write_excitation` and the one for figures in it, which is returned.

    Raises:
        InputError: it cannot be made, or jinja2 or matplotlib is not installed.
    """
    require_plotting()
    figures = out / "figures"
    try:
        figures.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {figures}: {error.strerror}; name another place") from None
    return figures


def panels(sites: list[str]) -> list[str]:
    """The blocks that are drawn one by one: as in the paper's Figure 6, each stage's last and all of the last stage.

    A stage is what a block's name says before its last number, ``layer4`` of ``layer4.1.se``. Where there are six
    blocks or fewer, all are drawn; where these are more than twelve, so many of them, evenly spread.
    """
    stages: dict[str, list[str]] = {}
    for site in sites:
        stages.setdefault(re.sub(r"\d+(?=\D*$).*", "", site), []).append(site)
    *before, last = stages.values()
    drawn = sites if len(sites) <= 6 else [stage[-1] for stage in before] + last
    return [drawn[i] for i in sampled(len(drawn), _PANELS)]


def _shown(found: Excitation) -> list[tuple[int, str]]:
    """The classes that figures show, with their colours."""
    return list(zip(found.chosen, SERIES, strict=False))


def _within(found: Excitation) -> list[tuple[int, str]]:
    """The classes whose spread is drawn, with their colours: the first and the third of four, as in Figure 7."""
    places = dict.fromkeys((0, len(found.chosen) // 2))
    return [_shown(found)[place] for place in places]


def _plots(found: Excitation) -> dict[str, Plot]:
    """Every figure, by the name of its file."""
    wide = [site for site in found.sites if len(found.sites[site].mean) > 1] or list(found.sites)
    drawn = panels(wide)
    plots = {
        "leave-one-out": lab_plots.losses(found.leave_out),
        "spread": gate_plots.gate_spread(found.sites),
        "effective-rank": lab_plots.ranks(found.spectra, found.sites),
    }
    for site in drawn:
        plots[f"figure6-{site}"] = gate_plots.class_gates(found.sites[site], found.classes, _shown(found), name=site)
        plots[f"figure7-{site}"] = gate_plots.class_spreads(found.sites[site], found.classes, _within(found), name=site)
    # Of two classes there is one correlation, and of one channel none.
    alike = [site for site in drawn if len(found.compared) > 2 and found.similarity[site].isfinite().any()]
    order = similarity_order([found.similarity[site] for site in alike]) if alike else []
    names = [found.classes[found.compared[k]] for k in order]
    for site in alike:
        matrix = found.similarity[site][order][:, order]
        plots[f"similarity-{site}"] = lab_plots.similarities(matrix, names, name=site)
    rows = [wide[i] for i in sampled(len(wide), _ROWS)]
    most = max((float(v.abs().max()) for p in found.portraits for v in p.deviations.values()), default=0.0)
    for number, portrait in enumerate(found.portraits, 1):
        plots[f"image{number}"] = lab_plots.strips(portrait, rows, most=most)
        for site, plane in portrait.maps.items():
            plots[f"image{number}-{site}"] = lab_plots.gate_map(plane, name=site)
    return plots


def _view(found: Excitation, drawn: dict[str, str]) -> dict[str, Any]:
    """The template's variables."""
    return {
        "found": found,
        "answer": answer(found),
        "notes": notes(found),
        "figures": drawn,
        "top1": list(_rows(found, lambda effect: effect.top1)),
        "top5": [] if found.leave_out.top5 is None else list(_rows(found, lambda effect: effect.top5)),
        "legend": [(found.classes[k], colour) for k, colour in _shown(found)],
        "within": [(found.classes[k], colour) for k, colour in _within(found)],
        "portraits": [_portrait(number, portrait) for number, portrait in enumerate(found.portraits, 1)],
        "compared": any(name.startswith("similarity-") for name in drawn),
        "panels": sum(name.startswith("figure6-") for name in drawn),
        "constants": {"still": STILL, "dead": DEAD, "saturated": SATURATED, "strip": lab_plots.STRIP},
    }


def _rows(found: Excitation, of: Callable[[Effect], Change | None]) -> Iterator[tuple[str, list[tuple[str, bool]]]]:
    """Rows of a table: a block, and each change of its gates with whether it is more than chance does."""
    for target, effects in itertools.groupby(found.leave_out.effects, key=lambda effect: effect.site):
        yield found.called(target), [(change(c), c.shown) for c in map(of, effects) if c is not None]


def _portrait(number: int, portrait: Portrait) -> dict[str, Any]:
    picture = portrait.picture
    return {
        "uri": None if picture is None else png(picture),
        "small": picture is not None and max(picture.shape[:2]) < 96,
        "truth": portrait.truth,
        "guess": portrait.guess,
        "figure": f"image{number}",
        "maps": [f"image{number}-{site}" for site in portrait.maps],
        "strongest": list(_strongest(portrait)),
    }


def _strongest(portrait: Portrait, most: int = 3) -> Iterator[tuple[str, int, float]]:
    """Block, channel and difference of the gates that differ most."""
    all_of_them = [(abs(d), site, c, d) for site, v in portrait.deviations.items() for c, d in enumerate(v.tolist())]
    for _, site, channel, difference in sorted(all_of_them, reverse=True)[:most]:
        yield site, channel, difference
