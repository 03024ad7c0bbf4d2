"""Mixup, from a batch to a training; what else is done to whole batches, tests/train/data/test_loader.py covers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from senet.errors import InputError
from senet.train.data import ImageSet, load_data, make_loader
from senet.train.data.augment import mix_up
from senet.train.data.randomness import stream
from senet.train.loop import train
from senet.train.optim import make_optimizer
from senet.train.recipe import Data
from senet.train.rundir import read_metrics, read_summary
from senet.train.start import initial_model
from senet.train.trained import read_trained
from senet.train.watch import Watch

CPU = torch.device("cpu")
SPEC = Data("synthetic", size=8, batch_size=8, pad=2, cutout=3, mixup=0.5)
COUNT = 29  # images, each a class of its own: a label says which images are in a mixture, and how much of each


def numbered() -> ImageSet:
    source = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (COUNT, 3, 8, 8), dtype=torch.uint8, generator=source)
    return ImageSet("train", tuple(map(str, range(COUNT))), torch.arange(COUNT), images)


def loader(spec: Data = SPEC, *, train: bool = True, **layout: int):
    return make_loader(numbered(), spec, train=train, seed=3, device=CPU, **layout)


def unmixed(**layout: int):
    return loader(dataclasses.replace(SPEC, mixup=0.0), **layout)


def test_a_mixture_is_what_the_paper_writes():
    source = torch.Generator().manual_seed(0)
    images, labels = torch.randn(4, 3, 5, 5, generator=source), torch.tensor([2, 0, 2, 1])
    order = torch.tensor([1, 3, 0, 2])
    mixed, shares = mix_up(images, labels, order, share=0.3, classes=4)
    for i, j in enumerate(order.tolist()):
        torch.testing.assert_close(mixed[i], 0.3 * images[i] + 0.7 * images[j])
        wanted = np.zeros(4, np.float32)
        wanted[labels[i]] += 0.3
        wanted[labels[j]] += 0.7
        torch.testing.assert_close(shares[i], torch.from_numpy(wanted))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_mixture_of_two_losses(smoothing):
    """As the authors' code computes it, with label smoothing of each."""
    source = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(6, 5, generator=source), torch.tensor([0, 4, 2, 2, 1, 3])
    order = torch.tensor([5, 0, 3, 2, 4, 1])
    _, shares = mix_up(torch.zeros(6, 1, 1, 1), labels, order, share=0.8, classes=5)
    first, second = (F.cross_entropy(logits, of, label_smoothing=smoothing) for of in (labels, labels[order]))
    torch.testing.assert_close(F.cross_entropy(logits, shares, label_smoothing=smoothing), 0.8 * first + 0.2 * second)


def test_a_share_of_one_changes_nothing():
    images, labels = torch.randn(4, 3, 5, 5), torch.tensor([2, 0, 2, 1])
    mixed, shares = mix_up(images, labels, torch.tensor([1, 3, 0, 2]), share=1.0, classes=4)
    assert torch.equal(mixed, images)
    assert torch.equal(shares, F.one_hot(labels, 4).float())


@pytest.mark.parametrize(("world", "accumulate"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_batches_are_mixed_last_by_one_share_a_step(world, accumulate):
    parts = world * accumulate
    chance = stream("mixup", seed=3, epoch=4)
    shares = chance.beta(0.5, 0.5, 3)
    orders = torch.from_numpy(chance.random((3, world, accumulate, 8 // parts)).argsort(-1))
    for rank in range(world):
        layout = {"rank": rank, "world": world, "accumulate": accumulate}
        pairs = zip(loader(**layout).batches(4), unmixed(**layout).batches(4), strict=True)
        for number, ((images, labels), (plain, numbers)) in enumerate(pairs):
            step, micro = divmod(number, accumulate)
            order = orders[step, rank, micro]
            wanted = mix_up(plain, numbers, order, share=float(shares[step]), classes=COUNT)
            assert torch.equal(images, wanted[0])
            assert torch.equal(labels, wanted[1])
            assert labels.dtype == torch.float32
            torch.testing.assert_close(labels.sum(1), torch.ones(len(labels)))


def test_processes_see_different_images():
    seen = []
    for rank in range(2):
        batches = loader(rank=rank, world=2).batches(0)
        seen.append({number for _, labels in batches for number in labels.sum(0).nonzero().flatten().tolist()})
    assert len(seen[0]) == len(seen[1]) == 12
    assert not seen[0] & seen[1]


def test_shares_are_half_on_average_and_spread_as_beta():
    """Of Beta(a, a): mean 1/2 and variance 1 / (8 a + 4)."""
    for alpha in (0.2, 1.0):
        spec = dataclasses.replace(SPEC, mixup=alpha, augment="none", cutout=0)
        found = []
        for epoch in range(300):
            plain = unmixed().batches(epoch)
            for (_, labels), (_, numbers) in zip(loader(spec).batches(epoch), plain, strict=True):
                found.append(labels[torch.arange(8), numbers].min())  # those mixed with themselves have 1
        shares = torch.stack(found).double()
        spread = 1 / (8 * alpha + 4)
        assert abs(shares.mean() - 0.5) < 4 * (spread / len(shares)) ** 0.5
        assert abs(shares.var() / spread - 1) < 0.15


def test_every_partner_is_as_likely():
    spec = dataclasses.replace(SPEC, batch_size=4, mixup=1.0)
    partners = torch.zeros(4)
    for epoch in range(100):
        plain = loader(dataclasses.replace(spec, mixup=0.0)).batches(epoch)
        for (_, labels), (_, numbers) in zip(loader(spec).batches(epoch), plain, strict=True):
            others = labels[0, numbers[1:]]
            partners[1 + others.argmax() if others.any() else 0] += 1
    expected = partners.sum() / 4
    assert (partners - expected).abs().max() < 4 * expected**0.5


def test_skipping_is_as_not_skipping():
    whole = list(loader(accumulate=2).batches(1))
    for start in range(len(whole) + 1):
        rest = list(loader(accumulate=2).batches(1, start))
        assert len(rest) == len(whole) - start
        for (images, labels), (wanted, shares) in zip(rest, whole[start:], strict=True):
            assert torch.equal(images, wanted)
            assert torch.equal(labels, shares)


def test_evaluation_is_not_mixed():
    pairs = zip(loader(train=False).batches(0), unmixed(train=False).batches(0), strict=True)
    for (images, labels), (wanted, numbers) in pairs:
        assert torch.equal(images, wanted)
        assert torch.equal(labels, numbers)


def test_one_image_has_no_partner():
    with pytest.raises(InputError, match=r"^data.mixup=0.5 mixes.*data.batch_size=8.*processes=4 times.*=2") as refused:
        loader(world=4, accumulate=2)
    assert "\n" not in str(refused.value)
    assert len(loader(world=4, accumulate=2, train=False)) == 8


class Stop(Watch):
    """Ends a training in the middle of its second epoch, as an error would."""

    left = 9

    def step(self, images):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def test_a_training_is_a_bare_loop_on_the_mixed_batches_and_resumes_as_one(tiny, tmp_path):
    changes = {"data.mixup": 1.0, "loss.label_smoothing": 0.1, "schedule.name": "constant", "run.save_every": 2}
    recipe = tiny.override({**changes, "schedule.epochs": 2, "run.accumulate": 2})
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path, watchers=[Stop()])
    train(recipe, tmp_path, resume=True)
    train_set, _ = load_data(recipe.data)
    batches = make_loader(train_set, recipe.data, train=True, seed=0, device=CPU, accumulate=2)
    model = initial_model(recipe.model, 3, 10, seed=0).train()
    optimizer = make_optimizer(model, recipe.optim)
    correct = []
    for epoch in range(2):
        correct.append(0)
        for micro, (images, labels) in enumerate(batches.batches(epoch)):
            logits = model(images)
            correct[-1] += int((logits.argmax(1) == labels.argmax(1)).sum())
            (F.cross_entropy(logits, labels, label_smoothing=0.1) / 2).backward()
            if micro % 2:
                optimizer.step()
                optimizer.zero_grad()
    trained = read_trained(tmp_path).model.state_dict()
    assert all(torch.equal(trained[name], tensor) for name, tensor in model.state_dict().items())
    assert [metrics["train_top1"] for metrics in read_metrics(tmp_path)] == [100 * right / 48 for right in correct]
    assert read_summary(tmp_path)["settings"]["data.mixup"] == 1.0
