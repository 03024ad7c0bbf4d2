import json
import os

import pytest

from senet.errors import InputError
from senet.options import to_plain
from senet.train.recipe import Model
from senet.train.rundir import (
    build_model,
    check_folder,
    open_folder,
    read_metrics,
    read_summary,
    settings_of,
    write_json,
)


def test_a_new_folder_gets_its_recipe(tiny, tmp_path):
    check_folder(tmp_path / "a" / "b", tiny, resume=False)
    assert not (tmp_path / "a").exists()
    open_folder(tmp_path / "a" / "b", tiny)
    assert json.loads((tmp_path / "a" / "b" / "recipe.json").read_text()) == to_plain(tiny)


def test_a_folder_with_a_run_is_not_written_over(tiny, tmp_path):
    open_folder(tmp_path, tiny)
    with pytest.raises(InputError, match="already holds a run of this recipe; continue it with --resume"):
        check_folder(tmp_path, tiny, resume=False)
    check_folder(tmp_path, tiny, resume=True)
    check_folder(tmp_path, tiny.override({"run.log_every": 3, "data.workers": 0}), resume=True)


def test_a_run_of_another_recipe_is_named_with_what_differs(tiny, tmp_path):
    open_folder(tmp_path, tiny)
    other = tiny.override({"optim.lr": 0.5, "model.options.placement": "pre"})
    with pytest.raises(InputError) as refused:
        check_folder(tmp_path, other, resume=True)
    assert "model.options.placement None -> pre, optim.lr 0.02 -> 0.5" in str(refused.value)


def test_parts_of_a_run_without_its_recipe_are_not_written_over(tiny, tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(InputError, match=r"holds model.safetensors of a run, but no recipe.json"):
        check_folder(tmp_path, tiny, resume=True)


def test_a_folder_that_cannot_be_written(tiny, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write into .*; name another folder with --out"):
        open_folder(tmp_path / "file" / "run", tiny)


def test_what_a_killed_run_was_writing_is_removed_and_nothing_else(tiny, tmp_path):
    (tmp_path / ".model.safetensors.tmp").touch()
    (tmp_path / ".notes.tmp").touch()
    open_folder(tmp_path, tiny)
    assert sorted(os.listdir(tmp_path)) == [".notes.tmp", "recipe.json"]


def test_a_summary_of_an_older_version_has_the_settings_that_came_since(tiny, tmp_path):
    open_folder(tmp_path, tiny)
    old = {name: value for name, value in settings_of(tiny).items() if name != "data.jitter"}
    write_json(tmp_path / "summary.json", {"settings": old})
    assert read_summary(tmp_path)["settings"] == settings_of(tiny)


@pytest.mark.parametrize(("name", "read"), [("summary.json", read_summary), ("metrics.jsonl", read_metrics)])
@pytest.mark.parametrize("text", ["nonsense\n", "[]x\n"])
def test_results_that_nobody_can_read(tiny, tmp_path, name, read, text):
    open_folder(tmp_path, tiny)
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match="not JSON"):
        read(tmp_path)


def test_a_summary_that_is_none(tiny, tmp_path):
    open_folder(tmp_path, tiny)
    (tmp_path / "summary.json").write_text("[]")
    with pytest.raises(InputError, match="is no summary"):
        read_summary(tmp_path)


def test_a_line_cut_off_is_no_metric(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\n{"epo')
    assert read_metrics(tmp_path) == [{"epoch": 1}]
    assert read_metrics(tmp_path / "none") == []


def test_reading_what_is_no_run(tiny, tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        read_summary(tmp_path)
    open_folder(tmp_path, tiny)
    with pytest.raises(InputError, match="is not complete"):
        read_summary(tmp_path)


def test_what_follows_from_the_data_is_no_option():
    with pytest.raises(InputError, match="'num_classes' follows from the data"):
        build_model(Model("cifar_resnet8", {"num_classes": 3}), 3, 10)


def test_a_run_does_not_need_the_file_it_began_with():
    with pytest.raises(InputError, match="'pretrained' is no part of a network"):
        build_model(Model("cifar_resnet8", {"pretrained": "x.safetensors"}), 3, 10)
