from __future__ import annotations

import json
import math

import pytest

from senet.analysis.compare import compare
from senet.errors import InputError


def summary(model="resnet8", seed=0, top1=90.0, **changes):
    return {
        "run": f"runs/{model}-{seed}",
        "recipe": "demo",
        "model": model,
        "parameters": 77_850 if model == "resnet8" else 78_366,
        "seed": seed,
        "epochs": 10,
        "seconds": 60.0 + seed,
        "top1": top1,
        "top5": 99.0,
        "val_loss": 0.3,
        "dataset": "fashion-mnist",
        "train_images": 900,
        "val_images": 100,
        **changes,
    }


def two_arms(plain, se):
    runs = [summary(seed=seed, top1=value) for seed, value in enumerate(plain)]
    return compare(runs + [summary("seresnet8", seed, value) for seed, value in enumerate(se)])


def test_means_and_spreads():
    comparison = two_arms([90, 91, 92], [90.5, 91.4, 92.3])
    plain, se = comparison.arms
    assert (plain.name, se.name) == ("resnet8", "seresnet8")
    assert (plain.score.n, plain.score.mean, plain.score.sd) == (3, 91, 1)
    assert se.score.mean == pytest.approx(91.4)
    assert se.score.sd == pytest.approx(0.9)
    assert plain.seconds.mean == 61
    assert plain.runs == ("runs/resnet8-0", "runs/resnet8-1", "runs/resnet8-2")


def test_better_where_the_interval_excludes_zero():
    difference = two_arms([90, 91, 92], [90.5, 91.4, 92.3]).differences[0]
    assert difference.points == pytest.approx((0.5, 0.4, 0.3))
    assert difference.half_width == pytest.approx(4.3027 * 0.1 / math.sqrt(3), rel=1e-4)
    assert difference.shown
    assert difference.verdict == (
        "seresnet8 is 0.40 points of top-1 better than resnet8 (sd of the difference 0.10, n = 3, p = 0.02)."
    )


def test_worse():
    difference = two_arms([90.5, 91.4, 92.3], [90, 91, 92]).differences[0]
    assert difference.verdict.startswith("seresnet8 is 0.40 points of top-1 worse than resnet8")


def test_no_difference_where_it_does_not():
    difference = two_arms([90, 91, 92], [90.5, 90.8, 92.3]).differences[0]
    assert not difference.shown
    assert difference.verdict.startswith(
        "No difference that these 3 seeds can show: seresnet8 minus resnet8 is +0.20 points"
    )
    assert "−0.20" in two_arms([90.5, 90.8, 92.3], [90, 91, 92]).differences[0].verdict


def test_the_rule_at_its_edge():
    # sd = sqrt(2)/10 * 5 and n = 2: t(0.975, 1) sd / sqrt(n) = 12.7062 * 0.5 = 6.3531
    assert two_arms([50, 50], [50 + 6.36 - 0.5, 50 + 6.36 + 0.5]).differences[0].shown
    assert not two_arms([50, 50], [50 + 6.34 - 0.5, 50 + 6.34 + 0.5]).differences[0].shown


def test_equal_runs_are_no_difference():
    difference = two_arms([90, 90], [90, 90]).differences[0]
    assert not difference.shown
    assert difference.verdict == (
        "seresnet8 minus resnet8 is +0.00 points of top-1 with each of 2 seeds; equal differences have no interval."
    )
    assert not two_arms([90, 91], [90.5, 91.5]).differences[0].shown


def test_one_seed():
    comparison = two_arms([90], [90.5])
    assert comparison.arms[0].score.sd is None
    assert not comparison.differences[0].shown
    assert comparison.differences[0].verdict.endswith("with seed 0; one seed shows nothing about spread.")


def test_one_run():
    comparison = compare([summary()])
    assert comparison.differences == ()
    assert comparison.caveats == ()


def test_pairs_by_seed_whatever_the_order():
    runs = [summary(seed=s, top1=v) for s, v in ((2, 92), (0, 90), (5, 80))]
    runs += [summary("seresnet8", s, v) for s, v in ((0, 90.5), (2, 92.3), (7, 99))]
    comparison = compare(runs)
    assert comparison.arms[0].seeds == (0, 2, 5)
    assert comparison.arms[0].accuracies == (90, 92, 80)
    assert comparison.differences[0].seeds == (0, 2)
    assert comparison.differences[0].points == pytest.approx((0.5, 0.3))
    assert comparison.caveats == ("Not every arm has every seed; missing somewhere: 5, 7.",)


def test_no_seed_in_common():
    difference = compare([summary(seed=0), summary("seresnet8", 1)]).differences[0]
    assert difference.spread is None
    assert "no seed in common" in difference.verdict


def test_arms_are_told_apart_by_what_differs():
    runs = [
        summary("seresnet8", settings={"optim.lr": 0.1, "optim.name": "sgd"}),
        summary("seresnet8", settings={"optim.lr": 0.1, "optim.name": "sgd", "model.options.reduction": 4}),
        summary("seresnet8", epochs=20, settings={"optim.lr": 0.1, "optim.name": "sgd"}),
        summary("seresnet8", settings={"optim.lr": 0.2, "optim.name": "sgd"}),
        summary("resnet8"),
    ]
    comparison = compare(runs)
    assert [arm.name for arm in comparison.arms] == [
        "seresnet8 (epochs=10, optim.lr=0.1)",
        "seresnet8 (epochs=10, model.options.reduction=4, optim.lr=0.1)",
        "seresnet8 (epochs=20, optim.lr=0.1)",
        "seresnet8 (epochs=10, optim.lr=0.2)",
        "resnet8",
    ]
    assert any("same number of epochs" in caveat for caveat in comparison.caveats)
    assert any("4 differences" in caveat for caveat in comparison.caveats)


def test_arms_that_differ_in_more_than_the_network_say_so():
    settings = {"optim.lr": 0.1, "model.options.attn": "se"}
    other = {"optim.lr": 0.2, "model.options.attn": "eca"}
    runs = [summary(settings=settings, images={"train": "a"}), summary("b", settings=other, images={"train": "b"})]
    assert compare(runs).caveats == (
        "The arms were not trained on the same images.",
        "The arms differ in more than the network: optim.lr.",
    )


def test_other_training_images_are_another_arm():
    comparison = compare([summary(images={"train": "a"}), summary(seed=1, images={"train": "b"})])
    assert [arm.name for arm in comparison.arms] == ["resnet8 (train_fingerprint=a)", "resnet8 (train_fingerprint=b)"]


def test_a_loss_that_diverged_passes_through():
    comparison = compare([summary(seed=0, val_loss=math.nan), summary(seed=1)])
    assert math.isnan(comparison.arms[0].val_loss.mean)


def test_to_dict_is_json():
    plain = json.loads(json.dumps(two_arms([90, 91, 92], [90.5, 91.4, 92.3]).to_dict()))
    assert plain["dataset"] == "fashion-mnist"
    assert plain["arms"][1]["score"]["n"] == 3
    difference = plain["differences"][0]
    assert difference["arm"] == "seresnet8"
    assert difference["shown"] is True
    assert 0.15 < difference["low"] < 0.16 < 0.64 < difference["high"] < 0.65
    assert difference["p"] == pytest.approx(0.0202, abs=1e-4)
    assert difference["exact_p"] == 0.25
    assert "better" in difference["verdict"]


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([], "no run to compare"),
        (
            [summary(images={"val": "a"}), summary(seed=1, images={"val": "b"}, dataset="photos")],
            r"\(on fashion-mnist\) and 'runs/resnet8-1' \(on photos\) have different held-out images",
        ),
        ([summary(classes=["a", "b"]), summary(seed=1, classes=["a", "c"])], "different lists of classes"),
        ([summary(val_images=100), summary(seed=1, val_images=99)], "different held-out images"),
        ([summary(), summary(run="again")], "both seed 0 of resnet8"),
        ([{"run": "x", "model": "resnet8"}], "'x' lacks recipe, parameters"),
        ([summary(top1=110)], "top1 is 110"),
        ([summary(top1=math.nan)], "top1 is nan"),
        ([summary(top5=-1)], "top5 is -1"),
        ([summary(seconds=0)], "seconds is 0"),
    ],
)
def test_refused(runs, message):
    with pytest.raises(InputError, match=message):
        compare(runs)
