"""Writes docs/reproduce.md and its figures from senet/evidence/small-*.jsonl.

A test compares the page with what is written here, of the figures only the names: other versions of matplotlib draw
other bytes.

python tools/reproduce.py
"""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from senet.analysis.evidence.compare import compare_table
from senet.analysis.evidence.compared import Compared, Row, network
from senet.analysis.evidence.plots import differences, dynamics
from senet.analysis.evidence.verdicts import (
    NOTE,
    TERMS,
    contrast_cells,
    exact_note,
    interval,
    order,
    published,
    tally,
    tested,
    verdict,
)
from senet.analysis.paired import RULE
from senet.analysis.wording import duration, p_value, plural, spread
from senet.recipes.evidence import SEEDS, evidence
from senet.recipes.tables import TABLES

Line = Mapping[str, Any]
Section = tuple[Compared, ...]  # tables that ask for the same networks, and expect the same signs

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reproduce.md"
FIGURES = PAGE.parent / "figures"
DATA = {
    "cifar10": "CIFAR-10, a copy kept as JPEG, whose accuracies are not those of the original images",
    "fashion-mnist": "Fashion-MNIST: grey, near saturation, so that small differences are to be expected",
}
HEAD = """# The paper's comparisons, trained small

Written by `tools/reproduce.py` from `senet/evidence/`, which `senet reproduce TABLE --check train --scale small`
measures; not by hand. What was to be run was noted before in [the log](log.md), the training is that of
`senet/recipes/small.py`, and all runs are listed below. Small networks, few images, few epochs: what is asked is
whether the sign and the order of the paper's differences are seen again, not whether its accuracies are.
"""


def page(results: Mapping[str, Sequence[Line]]) -> str:
    """The page as Markdown."""
    found = {source: sections(lines) for source, lines in results.items()}
    parts = [
        HEAD,
        *_summary(found),
        *_how([compared for its in found.values() for section in its for compared in section]),
        *_what(results),
        *(text for source, its in found.items() for text in _source(source, its)),
    ]
    return "\n".join(parts)


def sections(lines: Sequence[Line]) -> list[Section]:
    """All tables that are compared small, those together whose comparisons here are one and the same."""
    together: dict[str, list[Compared]] = {}
    for number, table in TABLES.items():
        if table.small:
            compared = compare_table(lines, table.small, table.baseline, number=number, seeds=SEEDS, title=table.title)
            asked = [(arm.label, arm.row, network(arm.model, arm.options)) for arm in table.small]
            together.setdefault(json.dumps([asked, _signs(compared)]), []).append(compared)
    return [tuple(its) for its in together.values()]


def _signs(compared: Compared) -> list[list[int]]:
    """Which signs the paper's differences have, row by row."""
    contrasts = [contrast for row in compared.rows for contrast in (row.plain, row.standard) if contrast]
    return [sorted({(each > 0) - (each < 0) for each in contrast.published}) for contrast in contrasts]


def _summary(found: Mapping[str, Sequence[Section]]) -> Iterator[str]:
    yield "## What came of it\n"
    yield _text(
        "How many of the paper's differences agree here / are contradicted / stay open, in the terms below, each by "
        "its own test: nothing is adjusted for their being many."
    )
    yield f"| | {' | '.join(found)} | the paper |"
    yield f"|---|{'--:|' * len(found)}---|"
    for across in zip(*found.values(), strict=True):
        tallies = (" / ".join(map(str, tally(first))) for first, *_ in across)  # on each data set
        section = across[0]
        titles = "; ".join(compared.title for compared in section)
        paper = "; ".join(published(compared).removeprefix("The paper ") for compared in section)
        yield f"| {_name(section)}: {titles} | {' | '.join(tallies)} | {paper} |"
    yield ""


def _what(results: Mapping[str, Sequence[Line]]) -> Iterator[str]:
    yield "## What was run\n"
    for source, lines in results.items():
        first, seconds = lines[0], [line["seconds"] for line in lines]
        versions = {f"{name} {version}" for line in lines for name, version in line["versions"].items()}
        yield _text(
            f"- **{source}**: {DATA[source]}. {first['train_images']:,} images to train on, {first['val_images']:,} "
            f"held out; {plural(first['epochs'], 'epoch')} in batches of {first['plain']['data']['batch_size']}. "
            f"{plural(len(lines), 'run')} of {len({_network(line) for line in lines})} networks; "
            f"{_distinct(lines, 'device')}, CPU threads of a run: {_distinct(lines, 'threads')}; "
            f"{duration(min(seconds))} to {duration(max(seconds))} each, {duration(math.fsum(seconds))} together. "
            f"{', '.join(sorted(versions))}; commit {_distinct(lines, 'commit')}."
        )


def _how(tables: Sequence[Compared]) -> Iterator[str]:
    tests = tested(tables)
    shown = [contrast for contrast, _ in tests.values() if contrast.paired.shown]
    strict = [(p, dataset, contrast) for (dataset, *_), (contrast, p) in tests.items() if p < 0.05]
    yield "## How to read it\n"
    yield _text(NOTE, RULE, TERMS, exact_note(contrast for contrast, _ in tests.values()))
    yield _text("In the figures a dot is a seed, a bar the mean, a line the 95 % interval of a difference.")
    yield _text(
        f"{plural(len(tests), 'difference')} {_are(len(tests))} tested, each once though tables share them. Were none "
        f"of them real, about {0.05 * len(tests):.1f} would be shown by chance; {len(shown)} {_are(len(shown))}. They "
        "share runs, so they are not independent. Adjusted for all of them together (Holm), p is below 0.05 for "
        f"{len(strict)} of {len(tests)}{':' if strict else '.'}"
    )
    for p, dataset, contrast in sorted(strict, key=lambda each: each[0]):
        yield f"- {dataset}: {contrast_cells(contrast)[0]}, {interval(contrast)} points, adjusted {p_value(p)}"
    if strict:
        yield ""


def _source(source: str, found: Sequence[Section]) -> Iterator[str]:
    yield f"## {source}\n"
    for section in found:
        yield from _section(source, section)
    yield "### Figure 4: how the networks learn\n"
    yield _text(
        "Mean over seeds and, as a band, the smallest and the largest. Training error is that of the changed images, "
        "as they were learnt from."
    )
    for _, row in found[0][0].twins:
        name = row.entry.label
        yield f"![Training and validation error of {name}](figures/{_file(source, name)}.svg)\n"
    yield from _cells(found)


def _section(source: str, section: Section) -> Iterator[str]:
    first, last = section[0], section[-1]
    yield f"### {_name(section)}\n"
    said = [f"*{compared.title}.* {published(compared)}." for compared in section[:-1]]
    yield _text(*said, f"*{last.title}.*", verdict(last), order(last))
    yield "| network | parameters | n | top-1 error, % | paper, % | |"
    yield "|---|--:|--:|--:|--:|---|"
    for row in first.rows:
        printed = "" if row.published is None else str(row.published)
        cells = (row.entry.label, _parameters(row), str(len(row.errors)), spread(row.error), printed, row.missing)
        yield f"| {' | '.join(cells)} |"
    yield "\n| difference | points [95 % interval] | p | exact p | beside the paper |"
    yield "|---|--:|--:|--:|---|"
    for contrast in first.contrasts:
        cells = contrast_cells(contrast)
        yield f"| {' | '.join(f'**{cell}**' if contrast.paired.shown else cell for cell in cells)} |"
    if first.contrasts:
        yield f"\n![Errors of all seeds, and differences](figures/{_file(source, first.number)}.svg)\n"


def _cells(found: Sequence[Section]) -> Iterator[str]:
    yield "### All runs\n"
    yield "Top-1 error in percent by seed, and the mean time of a run.\n"
    yield f"| network | {' | '.join(f'seed {seed}' for seed in SEEDS)} | time |"
    yield f"|---|{'--:|' * (len(SEEDS) + 1)}"
    rows = {network(row.entry.model, row.entry.options): row for its in found for row in its[0].rows}
    for row in rows.values():
        errors = [f"{row.errors[seed]:.2f}" if seed in row.errors else "not run" for seed in SEEDS]
        options = f" `{json.dumps(json.loads(network(row.entry.model, row.entry.options))[1])}`"
        time = "" if row.arm is None else duration(row.arm.seconds.mean)
        cells = (row.entry.model + (options if row.entry.options else ""), *errors, time)
        yield f"| {' | '.join(cells)} |"
    yield ""


def _parameters(row: Row) -> str:
    return "" if row.arm is None else f"{row.arm.parameters:,}"


def _network(line: Line) -> str:
    return network(line["model"], line["plain"]["model"]["options"])


def _name(section: Section) -> str:
    """``Table 10``, ``Tables 2, 4, 5`` or ``Text: overhead``."""
    numbers = [compared.number for compared in section]
    words = ", ".join(numbers)
    return f"Table{'s' if len(section) > 1 else ''} {words}" if numbers[0].isdecimal() else words.capitalize()


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _text(*sentences: str) -> str:
    """A paragraph."""
    return textwrap.fill(" ".join(filter(None, sentences)), 120, break_on_hyphens=False, break_long_words=False) + "\n"


def _distinct(lines: Sequence[Line], key: str) -> str:
    return ", ".join(sorted({str(line[key]) for line in lines}))


def _file(source: str, name: str) -> str:
    return "reproduce-" + f"{source}-{name}".lower().replace(": ", "-").replace(" ", "-")


def figures(results: Mapping[str, Sequence[Line]]) -> dict[str, bytes]:
    """The figures as SVG, by their names."""
    drawn = {}
    for source, lines in results.items():
        found = sections(lines)
        for first, *_ in found:
            if first.contrasts:
                drawn[_file(source, first.number)] = differences(first).file("svg")
        histories = {line["run"]: line["history"] for line in lines}
        for pair in found[0][0].twins:
            name = pair[1].entry.label
            arms = {row.entry.label: [histories[run] for run in row.arm.runs] for row in pair if row.arm}
            drawn[_file(source, name)] = dynamics(arms, name=name).file("svg")
    return drawn


def newest() -> dict[str, Sequence[Line]]:
    """The evidence, by source."""
    return {source: ledger.lines for source, ledger in evidence().items()}


if __name__ == "__main__":
    FIGURES.mkdir(exist_ok=True)
    PAGE.write_text(page(newest()))
    for old in FIGURES.glob("reproduce-*.svg"):
        old.unlink()
    for name, drawn in figures(newest()).items():
        (FIGURES / f"{name}.svg").write_bytes(drawn)
