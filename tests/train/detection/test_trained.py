"""A run of a detector from its training to its use."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from senet.analysis.compare import compare
from senet.errors import InputError
from senet.study.reporting import write_report
from senet.train.detection.evaluate import average_precision
from senet.train.detection.trained import as_results, boxes_of, detect, evaluate_detector, read_detector
from senet.train.loop import train
from senet.train.rundir import read_summary, write_json
from senet.train.tasks import task_in
from senet.train.trained import read_trained
from tests.train.detection.folders import tiny_recipe, write_coco


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    torch.set_num_threads(1)
    recipe = tiny_recipe(write_coco(folder / "coco"), **{"schedule.epochs": 1, "detector.score_threshold": 0.0})
    train(recipe, folder / "run")
    return folder / "run"


def test_evaluated_again_it_scores_the_same(run):
    trained, summary = read_detector(run), read_summary(run)
    score = evaluate_detector(trained, boxes_of(trained))
    assert {name: summary[name] for name in score.summary()} == score.summary()
    assert trained.category_ids == (3, 90)


def test_the_size_of_images_and_of_anchors_is_part_of_the_run(run):
    trained, larger = read_detector(run), read_detector(run, changes={"min_size": 96, "max_size": 128})
    assert trained.model.transform.min_size == (48,)
    assert larger.model.transform.min_size == (96,)
    assert trained.model.rpn.anchor_generator.sizes == larger.model.rpn.anchor_generator.sizes


def test_detections_have_the_names_and_ids_of_the_data(run):
    trained = read_detector(run / "best.safetensors")
    image, found = detect(trained, run.parent / "coco" / "val2017" / "0006.png")
    assert image.shape == (3, 48, 64)
    assert found
    assert {(one.name, one.category_id) for one in found} <= {("red", 3), ("green", 90)}
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_an_image_alone_has_the_boxes_that_the_evaluation_gave_it(run):
    trained = read_detector(run)
    path = boxes_of(trained).paths[1]
    _, found = detect(trained, path)
    _, again = detect(trained, path)
    assert found == again


def test_each_kind_of_run_is_told_from_the_other(run, tmp_path):
    assert task_in(run) == task_in(run / "model.safetensors") == "detection"
    assert task_in(tmp_path) == task_in("seresnet50.a1_in1k") == "classification"
    with pytest.raises(InputError, match="is of a detection training; here a classifier is wanted"):
        read_trained(run)
    with pytest.raises(InputError, match=r"no field 'size'; did you mean"):
        read_detector(run, changes={"size": 3})
    with pytest.raises(InputError, match="not finished an epoch"):
        read_detector(tmp_path)


def test_held_out_images_that_changed_are_refused(run, tmp_path):
    other = write_coco(tmp_path / "coco", val=2)
    trained = read_detector(run)
    with pytest.raises(InputError, match=r"has the classes red, green, the detector red"):
        boxes_of(read_detector_of_one_class(trained), other)
    assert len(boxes_of(trained, other)) == 2


def read_detector_of_one_class(trained):
    import dataclasses

    return dataclasses.replace(trained, classes=("red",), category_ids=(3,))


def test_runs_are_compared_by_ap_and_reported(run, tmp_path):
    comparison = compare([read_summary(run)])
    (arm,) = comparison.arms
    assert arm.metric.name == "AP"
    assert arm.accuracies == (read_summary(run)["ap"],)
    write_report([run], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for words in ("Precision and recall", "Found, missed, false", "red: precision, %", "validation AP, %"):
        assert words in page
    assert "top-1" not in page


def test_results_are_in_the_ids_of_the_data(run, tmp_path):
    """pycocotools counts the same from the file of annotations and what is written."""
    trained = read_detector(run)
    images, found, truth = boxes_of(trained), [], []
    for index in range(len(images)):
        arrays = (images.boxes, images.labels, images.areas)
        boxes, labels, areas = (torch.from_numpy(array[images.of(index)]) for array in arrays)
        found.append({"boxes": boxes + index, "labels": labels, "scores": torch.full((len(labels),), 0.9 - index / 10)})
        truth.append({"boxes": boxes, "labels": labels, "iscrowd": torch.zeros_like(labels), "area": areas})
    write_json(tmp_path / "results.json", as_results(trained, images, found))
    reference = COCO(run.parent / "coco" / "annotations" / "instances_val2017.json")
    judge = COCOeval(reference, reference.loadRes(str(tmp_path / "results.json")), "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    score = average_precision(found, truth, trained.classes, trained.category_ids)
    assert score.numbers["ap"] == pytest.approx(100 * judge.stats[0], abs=1e-4)
    assert 10 < score.numbers["ap"] < 95


def test_the_command_line_knows_a_detector(run, tmp_path, capsys):
    from senet.cli import app

    image = run.parent / "coco" / "val2017" / "0006.png"
    results = tmp_path / "results.json"
    wanted = [
        ["eval", run],
        ["eval", run, "--json", "--detections", results],
        ["eval", run, "--voc-ap"],
        ["predict", run, image, "--out", tmp_path / "pictures"],
    ]
    for arguments in wanted:
        app([str(argument) for argument in arguments], standalone_mode=False)
    out = capsys.readouterr().out
    assert "boxes: AP" in out
    assert "VOC 2007 AP" in out
    written = json.loads(results.read_text())
    assert {one["image_id"] for one in written} <= {106, 107, 108, 109}
    assert {one["category_id"] for one in written} <= {3, 90}
    line = json.loads(out.splitlines()[-1])
    assert line["image"] == str(image)
    assert {"box", "class", "category_id", "score"} == line["boxes"][0].keys()
    with Image.open(tmp_path / "pictures" / "0006.png") as picture:
        assert picture.size == (64, 48)
    with pytest.raises(InputError, match="is the folder of"):
        app(["predict", str(run), str(image), "--out", str(Path(image).parent)], standalone_mode=False)


def test_what_the_command_line_refuses_of_a_detector(run, tmp_path):
    from senet.cli import app

    image = run.parent / "coco" / "val2017" / "0006.png"
    (tmp_path / "file").touch()
    for words, said in (
        (
            ["predict", run, image, tmp_path / "0006.jpg", "--out", tmp_path / "out"],
            "two of the images are called",
        ),
        (["predict", run, image, "--out", tmp_path / "file"], "cannot write into .*file"),
        (["predict", run, image, "--top", 3], "--top is for classifiers"),
        (["eval", run, "--detections", tmp_path / "nowhere" / "x.json"], "there is no folder .*nowhere"),
    ):
        with pytest.raises(InputError, match=said):
            app([str(word) for word in words], standalone_mode=False)
