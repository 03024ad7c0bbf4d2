"""Packs networks trained here into the package: files and records in senet/models/weights/own.

    python tools/own_weights.py --commit HASH RUN...

RUN are the folders of complete runs on one data set that `senet train` wrote: of each network one recipe, with seed 0
and as many others as there are. HASH is the commit of the code that trained them. Packed is what seed 0's run gave
after its last epoch, never the best of several; the other seeds are for the mean and the standard deviation. The
held-out images must be there: the packed file is measured on them.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import NamedTuple

from senet.analysis.arms import Arm, group
from senet.errors import InputError
from senet.files import write_whole
from senet.models.weights.files import read_tensors, write_tensors
from senet.models.weights.own.records import FOLDER, Record, file_name
from senet.models.weights.preprocessing import Preprocessing
from senet.options import to_plain
from senet.train.apply import evaluate_run
from senet.train.recipe import Recipe
from senet.train.rundir import read_summary, write_json
from senet.train.trained import read_trained


class DataSet(NamedTuple):
    """What a data set is called, and the source that the packed recipe names.

    A copy in class folders is the source "folder", also where the run read it as "cifar10" by its root: without the
    root, that would fetch the original, which has other images.
    """

    tag: str
    words: str
    source: str


# By the fingerprint of the held-out images, so that no file is named after data it has not seen.
DATA = {
    "a3ed0c02f5e2f0dd": DataSet("fashion_mnist", "Fashion-MNIST", "fashion-mnist"),
    "6ed2821bfd94a482": DataSet("cifar10_jpeg", "CIFAR-10, JPEG copy (quality 75)", "folder"),
}


def pack(runs: Sequence[Path], commit: str, folder: Path = FOLDER) -> list[Record]:
    """Packs seed 0's run of each network, all of them or, if one cannot be packed, none; returns the records.

    Raises:
        InputError: a run is not complete, two recipes are of one network, seed 0 is missing, the network has options
            of its own, or it was judged by images that are not known here or are not where they were.
    """
    arms = group([read_summary(run) for run in runs])
    models = [arm.model for arm in arms]
    if twice := sorted({model for model in models if models.count(model) > 1}):
        raise InputError(f"runs of several recipes are of {twice[0]}; give those of one")
    with tempfile.TemporaryDirectory() as name:
        drafts = Path(name)
        records = [_pack(arm, commit, drafts) for arm in arms]
        for suffix in (".safetensors", ".json"):  # a record says that its file is there, so it comes after it
            for draft in drafts.glob(f"*{suffix}"):
                write_whole(folder / draft.name, draft.read_bytes())
    return records


def _pack(arm: Arm, commit: str, folder: Path) -> Record:
    if 0 not in arm.seeds:
        raise InputError(f"{arm.model} has no run of seed 0, which is the one to pack; train it")
    run = Path(arm.runs[arm.seeds.index(0)])
    summary, recipe = read_summary(run), Recipe.load(run / "recipe.json")
    if recipe.model.options:
        raise InputError(f"{run} has the options {recipe.model.options}; pack networks as `senet models` lists them")
    data = DATA.get(summary["images"]["val"])
    if data is None:
        known = ", ".join(name.words for name in DATA.values())
        raise InputError(f"{run} was judged by images that are not known here; known: {known}")
    path = folder / file_name(arm.model, data.tag)
    _write(run, path, to_plain(recipe) | {"data": to_plain(replace(recipe.data, source=data.source, root=None))})
    trained = read_trained(path)  # judged by the images held out in its training, wherever they lie, and by no others
    score = evaluate_run(replace(trained, data=replace(trained.data, root=recipe.data.root)))
    assert score.top5 is not None  # known data has more than five classes
    dropped = {"run", "dataset", "confusion"}
    record = Record(
        model=arm.model,
        tag=data.tag,
        trained_on=data.words,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        preprocessing=Preprocessing(**{f.name: getattr(recipe.data, f.name) for f in fields(Preprocessing)}),
        images=score.images,
        right=sum(row[label] for label, row in enumerate(score.confusion)),
        right_in_5=round(score.top5 * score.images / 100),
        seed_top1={str(seed): top1 for seed, top1 in zip(arm.seeds, arm.accuracies, strict=True)},
        commit=commit,
        run={"name": run.name, **{key: value for key, value in summary.items() if key not in dropped}},
    )
    write_json(path.with_suffix(".json"), to_plain(record))
    return record


def _write(run: Path, path: Path, recipe: dict[str, object]) -> None:
    """The run's last weights at half the size: biases, norms and their statistics stay in float32."""
    tensors, info = read_tensors(run / "model.safetensors")
    halved = {name: tensor.half() if tensor.ndim > 1 else tensor for name, tensor in tensors.items()}
    write_tensors(path, halved, {**info, "recipe": recipe})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", required=True, help="of the code that trained them")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    given = parser.parse_args()
    for packed in pack(given.runs, given.commit):
        print(f"{packed.model}.{packed.tag}: {packed.top1:.2f} %, {packed.run['top1']:.2f} % before rounding")
