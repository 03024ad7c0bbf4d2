"""Results as lines: found again by what was trained, whole whatever happened."""

import json

import pytest

from senet.errors import InputError
from senet.options import to_plain
from senet.recipes import get_recipe
from senet.study.ledger import Ledger
from senet.train.rundir import settings_of

RECIPE = get_recipe("synthetic.seresnet8")


def line(recipe, **more):
    plain = to_plain(recipe)
    return {"plain": plain, "settings": settings_of(recipe), "images": {"train": "a", "val": "b"}, **more}


def test_a_result_is_found_by_what_was_trained(tmp_path):
    ledger = Ledger(tmp_path / "results.jsonl")
    ledger.add(line(RECIPE, top1=50.0))
    ledger.add(line(RECIPE.override({"run.seed": 1}), top1=60.0))
    again = Ledger(tmp_path / "results.jsonl")
    assert again.lines == ledger.lines
    moved = RECIPE.override({"data.workers": 7, "run.log_every": 3, "name": "another name"})
    assert again.find(moved)["top1"] == 50.0
    assert again.find(RECIPE.override({"run.seed": 1}))["top1"] == 60.0
    assert again.find(RECIPE.override({"optim.lr": 0.7})) is None
    assert again.find(RECIPE, {"train": "a", "val": "b"})["top1"] == 50.0
    assert again.find(RECIPE, {"train": "a", "val": "other images"}) is None


def test_fields_that_a_recipe_has_got_since_have_their_defaults(tmp_path):
    old = line(RECIPE, top1=50.0)
    del old["plain"]["optim"]["clip_grad_norm"], old["plain"]["data"]["jitter"]
    del old["settings"]["optim.clip_grad_norm"], old["settings"]["data.jitter"]
    (tmp_path / "results.jsonl").write_text(json.dumps(old) + "\n")
    found = Ledger(tmp_path / "results.jsonl").find(RECIPE)
    assert found["top1"] == 50.0
    assert found["settings"] == settings_of(RECIPE)


def test_half_a_line_is_as_if_it_were_not_there(tmp_path):
    path = tmp_path / "results.jsonl"
    Ledger(path).add(line(RECIPE, top1=50.0))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    ledger = Ledger(path)
    assert len(ledger.lines) == 1
    ledger.add(line(RECIPE.override({"run.seed": 1}), top1=60.0))
    assert [one["top1"] for one in map(json.loads, path.read_text().splitlines())] == [50.0, 60.0]


def test_half_a_first_line_too(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text('{"plain": ')
    Ledger(path).add(line(RECIPE, top1=50.0))
    assert [one["top1"] for one in map(json.loads, path.read_text().splitlines())] == [50.0]


@pytest.mark.parametrize(
    ("text", "said"), [("nonsense\n", "a line that is not JSON"), ("{}\n", "a line without a recipe")]
)
def test_what_no_grid_wrote_is_refused(tmp_path, text, said):
    (tmp_path / "results.jsonl").write_text(text)
    with pytest.raises(InputError, match=said):
        Ledger(tmp_path / "results.jsonl")
