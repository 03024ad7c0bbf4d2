from __future__ import annotations

import torch

from senet.analysis.lab.sample import Sample


def kept(images, most, *, batch, seed=0):
    sample = Sample(most, seed=seed)
    values = torch.arange(images)
    for part in values.split(batch):
        sample.offer(part.float().view(-1, 1, 1, 1), part % 7)
    return sample


def numbers(sample):
    return [int(x) for part in sample.batches(torch.device("cpu")) for x in part.flatten()]


def test_all_are_kept_while_they_fit():
    sample = kept(10, 10, batch=4)
    assert numbers(sample) == list(range(10))
    assert sample.labels.tolist() == [n % 7 for n in range(10)]
    assert [len(part) for part in sample.batches(torch.device("cpu"))] == [4, 4, 2]
    assert int(sample.image(3)) == 3


def test_the_sample_does_not_depend_on_the_batches_but_on_the_seed():
    first = numbers(kept(200, 30, batch=200))
    assert len(first) == 30
    assert first == sorted(set(first))
    assert numbers(kept(200, 30, batch=7)) == first
    assert numbers(kept(200, 30, batch=7, seed=1)) != first


def test_every_image_has_the_same_chance():
    """2,000 draws of 5 from 20: each is kept 500 times, with a standard deviation of 19.4."""
    count = torch.zeros(20)
    for seed in range(2000):
        count[numbers(kept(20, 5, batch=20, seed=seed))] += 1
    assert count.sum() == 10_000
    assert (count - 500).abs().max() < 4 * 19.4


def test_labels_stay_with_their_images():
    sample = kept(100, 9, batch=8)
    assert sample.labels.tolist() == [n % 7 for n in numbers(sample)]
    assert sample.seen == 100


def test_images_are_copies():
    images = torch.zeros(2, 1, 1, 1)
    sample = Sample(2, seed=0)
    sample.offer(images, torch.tensor([0, 1]))
    images += 1
    assert float(sample.image(0)) == 0
