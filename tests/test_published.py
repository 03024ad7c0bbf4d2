from __future__ import annotations

import dataclasses
import functools
import json
from decimal import Decimal

import pytest
import torch

from senet.analysis.complexity import count
from senet.blocks import SqueezeExcite
from senet.errors import InputError
from senet.models import create_model
from senet.published import NOT_EXPLAINED, RULES, Figure, counts, editions, explain, figures

ROWS = {
    ("tpami", "1"): 12, ("tpami", "2"): 23, ("tpami", "3"): 6, ("cvpr", "3"): 5, ("tpami", "8"): 17,
    ("tpami", "9"): 6, ("release", "models"): 7, ("others", "mcnSENets"): 7, ("others", "ports"): 11,
    ("tpami", "4"): 8, ("tpami", "5"): 8, ("tpami", "6"): 3, ("tpami", "7"): 4, ("tpami", "text: detection"): 2,
    ("preprint-v3", "text: detection"): 2, ("cvpr", "6"): 4, ("tpami", "text: ILSVRC"): 2, ("tpami", "10"): 6,
    ("cvpr", "7"): 5, ("tpami", "11"): 2, ("tpami", "12"): 3, ("tpami", "13"): 5, ("tpami", "14"): 4,
    ("tpami", "15"): 2, ("tpami", "16"): 3, ("tpami", "footnote 2"): 2, ("tpami", "text: time"): 2,
    ("tpami", "text: overhead"): 2, ("cvpr", "text: overhead"): 1,
}  # fmt: skip
UNITS = {
    "top1_error": {"%"}, "top5_error": {"%"}, "error": {"%"}, "top1_accuracy": {"%"}, "top5_accuracy": {"%"},
    "ap": {"%"}, "ap50": {"%"}, "top1_gain": {"points"}, "top5_gain": {"points"}, "ap_gain": {"points"},
    "ap50_gain": {"points"}, "top1_loss_below": {"points"}, "top5_loss_below": {"points"},
    "ap_relative_gain": {"%"}, "relative_improvement": {"%"}, "multiply_adds_increase": {"%"},
    "parameters_increase": {"%"}, "multiply_adds": {"G", "M"}, "parameters": {"M"}, "parameters_added": {"M"},
    "step_time": {"ms"}, "inference_time": {"ms"}, "file_size": {"MB"}, "output": {"px"}, "units": {"n"},
    "groups": {"n"}, "conv1": {"channels"}, "conv2": {"channels"}, "conv3": {"channels"}, "hidden": {"channels"},
}  # fmt: skip
SIZES = [figure for figure in figures() if figure.metric in RULES]
UNEXPLAINED = {
    ("2", "ResNeXt-101 (32x4d)"), ("2", "Inception-ResNet-v2"), ("2", "SE-Inception-ResNet-v2"),
    ("3", "ShuffleNet"), ("3", "SE-ShuffleNet"),
}  # fmt: skip # their multiply-adds
NETWORKS = sorted({(f.model, json.dumps(f.options)) for f in figures() if f.model})


def build(model, options):
    with torch.device("meta"):
        return create_model(model, **options).eval()


@functools.cache
def complexity_of(model, options, image):
    return count(build(model, json.loads(options)), (3, image, image))


@functools.cache
def sizes_of(model, options, image):
    """The exact counts that the rules speak of."""
    return dataclasses.asdict(complexity_of(model, options, image).total)


def sizes_for(figure):
    return sizes_of(figure.model, json.dumps(figure.options), figure.image)


def values(metric, table, edition="tpami"):
    return {figure.row: figure.value for figure in figures(metric=metric, table=table, edition=edition)}


def title(case):
    return " ".join(map(str, case)) if isinstance(case, tuple) else None


def test_every_table_is_there_with_its_rows():
    found = {}
    for figure in figures():
        found.setdefault((figure.edition, figure.table), {})[figure.row, figure.model, figure.image] = None
    assert {key: len(rows) for key, rows in found.items()} == ROWS
    assert {edition for edition, _ in found} == set(editions())
    assert {table for edition, table in found if edition == "tpami"} >= {str(number) for number in range(1, 17)}


def test_figures_are_well_formed():
    for figure in figures():
        assert figure.unit in UNITS[figure.metric], figure
        assert figure.row.strip() == figure.row != ""
        assert 0 < figure.value < {"%": 100, "points": 4, "G": 20}.get(figure.unit, 3000), figure
        assert figure.image in (None, 32, 224, 299, 320, 331)
        assert figure.metric not in RULES or (figure.model and figure.image)
    identities = [(f.edition, f.table, f.row, f.model, f.image, f.metric) for f in figures()]
    assert len(identities) == len(set(identities))
    recalled = {(f.edition, f.table) for f in figures() if not f.verified}
    assert recalled == {("cvpr", "3"), ("cvpr", "6"), ("cvpr", "7")}


def test_digits_are_kept():
    assert str(values("top1_error", "2")["ResNet-50"]) == "24.80"
    assert str(values("multiply_adds", "2")["SE-ResNeXt-101 (32x4d)"]) == "8.00"
    assert str(values("multiply_adds", "3")["MobileNet"]) == "569"


def test_figures_are_found_by_what_they_are_about():
    found = figures(model="seresnet50_caffe", table="10", metric="top1_error", edition="tpami")
    assert [figure.options["attn_options"]["reduction"] for figure in found] == [2, 4, 8, 16, 32]
    assert [str(figure.value) for figure in found] == ["22.29", "22.25", "22.26", "22.28", "22.72"]
    assert len(figures()) > len(figures(edition="tpami")) > len(figures(edition="tpami", metric="top1_error")) > 0
    assert figures(model="vit_base") == () == counts("vit_base")
    assert {count.model for count in counts("senet154")} == {"senet154"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"edition": "tpam"}, r"^no published figure has edition 'tpam'; did you mean 'tpami'\?$"),
        ({"table": "text: tims"}, r"^no published figure has table 'text: tims'; did you mean 'text: time'"),
        ({"metric": "top1"}, r"^no published figure has metric 'top1'"),
    ],
)
def test_unknown_attributes_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        figures(**given)


# What the tables say must agree with itself.


@pytest.mark.parametrize(("edition", "table", "rows"), [("tpami", "2", 8), ("tpami", "3", 2), ("cvpr", "3", 2)])
@pytest.mark.parametrize("metric", ["top1", "top5"])
def test_gains_are_differences_to_the_reimplementation(edition, table, rows, metric):
    errors, gains = (values(f"{metric}_{kind}", table, edition) for kind in ("error", "gain"))
    assert len(gains) == rows
    assert gains == {row: errors[row.removeprefix("SE-")] - errors[row] for row in gains}


@pytest.mark.parametrize(("text", "edition", "table"), [("tpami", "tpami", "7"), ("preprint-v3", "cvpr", "6")])
def test_gains_in_detection_are_those_of_the_table(text, edition, table):
    for metric, rows in (("ap", 2), ("ap50", 1)):
        found, gains = values(metric, table, edition), values(f"{metric}_gain", "text: detection", text)
        assert len(gains) == rows
        assert gains == {row: found[row] - found[row.removeprefix("SE-")] for row in gains}
    ap, relative = values("ap", table, edition), values("ap_relative_gain", "text: detection", text)
    plain = {row: ap[row.removeprefix("SE-")] for row in relative}
    assert relative == {row: (100 * (ap[row] / plain[row] - 1)).quantize(Decimal("0.1")) for row in relative}


def test_ablations_share_their_baselines():
    same = [{"SE", "SE_All", "r = 16", "Avg", "Sigmoid"}, {"ResNet-50"}]
    for rows in same:
        found = [f for f in figures(edition="tpami") if f.table.isdecimal() and int(f.table) >= 10 and f.row in rows]
        assert {f.row for f in found} == rows
        for metric in ("top1_error", "top5_error", "multiply_adds", "parameters"):
            assert len({f.value for f in found if f.metric == metric}) == 1


def test_tables_quote_each_other():
    for metric in ("top1_error", "top5_error"):
        best = {(f.row, f.image): f.value for f in figures(table="8", metric=metric)}
        assert best["ResNet-152", 224] == values(metric, "2")["ResNet-152 (original)"]
        assert best["Inception-ResNet-v2", 299] == values(metric, "2")["Inception-ResNet-v2 (original)"]
        assert best["SENet-154", 224] == values(metric, "models", "release")["SENet-154"]
    paper, release = values("top1_error", "2"), values("top1_error", "models", "release")
    assert len(paper.keys() & release.keys()) == 6
    assert all(release[row] < paper[row] for row in paper.keys() & release.keys())
    assert values("multiply_adds", "text: time").items() <= values("multiply_adds", "2").items()


def test_the_released_weights_were_evaluated_alike():
    """All but BN-Inception, whose preprocessing the evaluator doubts."""
    for metric in ("top1_error", "top5_error"):
        theirs, again = values(metric, "models", "release"), values(metric, "mcnSENets", "others")
        assert theirs.keys() == again.keys()
        assert [row for row in theirs if abs(theirs[row] - again[row]) > Decimal("0.2")] == ["SE-BN-Inception"]
    ports = {f.model: 100 - f.value for f in figures(table="ports", metric="top1_accuracy") if "Cadene" in f.row}
    released = {f.model: f.value for f in figures(table="models", metric="top1_error")}
    assert ports.keys() == released.keys() - {"sebn_inception"}
    assert all(abs(ports[model] - released[model]) < Decimal("0.2") for model in ports)


def test_ilsvrc_improvement():
    error, improvement = values("top5_error", "text: ILSVRC"), values("relative_improvement", "text: ILSVRC")
    assert improvement["first place 2017"] == round(100 * (1 - error["first place 2017"] / error["first place 2016"]))


def test_overhead_is_what_the_counts_say():
    plain, added = counts("resnet50")[0].parameters, counts("seresnet50")[0].attention_multiply_adds
    whole = next(c for c in counts("seresnet50") if c.options.get("stages") == [2, 3, 4])
    increase = values("parameters_increase", "text: overhead")
    assert increase["all stages"] == round(100 * added / plain)
    assert increase["without last stage"] == round(100 * whole.attention_parameters / plain)
    assert values("parameters_added", "text: overhead")["all stages"] == round(Decimal(added) / 10**6, 1)
    flops = values("multiply_adds", "text: time")
    gain = 100 * (flops["SE-ResNet-50"] / flops["ResNet-50"] - 1)
    assert values("multiply_adds_increase", "text: overhead")["all stages"] == round(gain, 2)


def test_reduction_ratios_follow_the_papers_formula():
    """Sec. 4, eq. 5: 2 / r * sum N_s C_s^2, from the paper's own Table 1; two figures are rounded, each to 0.1 M."""
    table = {(f.row, f.metric): f.value for f in figures(table="1", model="seresnet50_caffe")}
    squares = sum(table[f"stage {s}", "units"] * table[f"stage {s}", "conv3"] ** 2 for s in (2, 3, 4, 5))
    published = values("parameters", "10")
    for r in (2, 4, 8, 16, 32):
        added = published[f"r = {r}"] - published["ResNet-50"]
        assert abs(added - 2 * squares / r / 10**6) <= Decimal("0.1")


# What the tables say must be what we build.


@pytest.mark.parametrize("network", NETWORKS, ids=title)
def test_published_networks_can_be_built(network):
    model, options = network
    net = build(model, json.loads(options))
    blocks = [module for module in net.modules() if isinstance(module, SqueezeExcite)]
    assert bool(blocks) == model.removeprefix("cifar_").startswith("se")
    for name, value in json.loads(options).items():
        if name != "attn_options":
            assert getattr(net.config, name) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize("model", ["resnet50_caffe", "seresnet50_caffe", "seresnext50_32x4d_caffe"])
def test_table_1(model):
    net = build(model, {})
    for stage in (2, 3, 4, 5):
        row = {f.metric: f.value for f in figures(table="1", model=model) if f.row == f"stage {stage}"}
        units = net.get_submodule(f"layer{stage - 1}")
        assert len(units) == row["units"]
        assert net.feature_info[stage - 1]["reduction"] * row["output"] == 224
        for unit in units:
            assert [unit.get_submodule(f"conv{i}").out_channels for i in (1, 2, 3)] == [
                row[f"conv{i}"] for i in (1, 2, 3)
            ]
            assert unit.conv2.groups == row["groups"]
            assert (unit.se.fc1.out_channels if unit.se else None) == row.get("hidden")


@pytest.mark.parametrize("exact", counts(), ids=lambda c: f"{c.model} {json.dumps(c.options)} {c.image}")
def test_networks_have_the_exact_counts(exact):
    complexity = complexity_of(exact.model, json.dumps(exact.options), exact.image)
    total, attention = complexity.total, complexity.attention
    giga = exact.giga_multiply_adds
    found = {
        "parameters": total.parameters,
        "giga_multiply_adds": giga and (Decimal(total.multiply_adds) / 10**9).quantize(giga),
        "attention_parameters": attention.parameters,
        "attention_multiply_adds": attention.multiply_adds,
    }
    given = {name: getattr(exact, name) for name in found if getattr(exact, name) is not None}
    assert given
    assert {name: found[name] for name in given} == given


@pytest.mark.parametrize("figure", SIZES, ids=lambda f: f"{f.table} {f.row} {f.metric}")
def test_published_sizes_follow_by_a_rule(figure):
    expected = figure.metric == "multiply_adds" and (figure.table, figure.row) in UNEXPLAINED
    assert (explain(figure, sizes_for(figure)) == NOT_EXPLAINED) == expected


def test_one_rule_gives_all_parameters_of_the_ablations():
    found = [f for f in SIZES if f.metric == "parameters" and f.table in ("10", "13", "15", "16")]
    assert len(found) == 16
    giving = [
        rule.words for rule in RULES["parameters"] if all(rule.explains(figure, sizes_for(figure)) for figure in found)
    ]
    assert giving == ["counts the norms' running statistics and a bias for each gate too"]
    assert {figure.rule for figure in found} == set(giving)


def test_no_one_rule_gives_all_multiply_adds():
    found = [f for f in SIZES if f.table == "2" and (f.table, f.row) not in UNEXPLAINED and "Res" in f.row]
    for rule in RULES["multiply_adds"]:
        given = [rule.explains(figure, sizes_for(figure)) for figure in found]
        assert any(given)
        assert not all(given)


def figure(value, unit, metric):
    return Figure("tpami", "0", "a network", metric, Decimal(value), unit)


@pytest.mark.parametrize(
    ("printed", "counted", "words"),
    [
        (("1.0", "M", "parameters"), (1_049_999, 0, 0), "exact"),
        (("1.05", "M", "parameters"), (1_049_999, 0, 0), "exact"),
        (("1.1", "M", "parameters"), (1_049_999, 1, 0), "counts the norms' running statistics too"),
        (("1.1", "M", "parameters"), (1_049_000, 500, 500), "counts the norms' running statistics and a bias "),
        (("1.1", "M", "parameters"), (1_199_999, 0, 0), "rounded down"),
        (("1.1", "M", "parameters"), (1_200_000, 0, 0), "not explained"),
    ],
)
def test_the_simplest_rule_explains(printed, counted, words):
    names = ("parameters", "statistics", "gates")
    assert explain(figure(*printed), dict(zip(names, counted, strict=True))).startswith(words)


def test_what_cannot_be_explained_is_refused():
    with pytest.raises(InputError, match=r"^no rule explains 'top1_error'; known: multiply_adds, parameters$"):
        explain(figure("1", "%", "top1_error"), {})
    with pytest.raises(InputError, match=r"^the counts lack gates; to explain parameters give gates, parameters, stat"):
        explain(figure("1", "M", "parameters"), {"parameters": 1, "statistics": 1})
