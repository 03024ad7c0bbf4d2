from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from senet.analysis.gates.record import record
from senet.analysis.lab.leave_out import ALL, Change, leave_one_out, right
from senet.analysis.lab.sample import Sample
from senet.blocks import create_block
from senet.errors import InputError
from senet.models import create_model

CPU = torch.device("cpu")


def test_the_standard_error_is_that_of_paired_differences():
    chance = np.random.default_rng(0)
    before, after = chance.random(500) < 0.8, chance.random(500) < 0.7
    change = Change.of(torch.from_numpy(before), torch.from_numpy(after))
    differences = after.astype(float) - before
    assert change.points == pytest.approx(100 * differences.mean())
    assert change.error == pytest.approx(100 * differences.std() / math.sqrt(500))


@pytest.mark.parametrize(("gained", "lost", "shown"), [(0, 4, False), (0, 5, True), (5, 0, True), (6, 16, True),
                                                       (6, 15, False), (0, 0, False)])  # fmt: skip
def test_a_change_is_shown_beyond_what_chance_does(gained, lost, shown):
    assert Change(100, gained, lost).shown == shown  # |gained - lost| > 2 sqrt(gained + lost)


def test_nothing_changed_is_nothing_shown():
    same = torch.tensor([True, False, True])
    change = Change.of(same, same)
    assert (change.points, change.error, change.shown) == (0, 0, False)


def test_right_by_the_first_and_by_the_first_five():
    logits = torch.arange(7.0).repeat(3, 1)
    first, five = right(logits, torch.tensor([6, 2, 1]), 7)
    assert first.tolist() == [True, False, False]
    assert five.tolist() == [True, True, False]
    assert right(logits[:, :5], torch.tensor([4, 2, 1]), 5)[1] is None


def test_logits_that_are_not_finite_are_wrong():
    logits = torch.arange(7.0).repeat(3, 1)
    logits[1, 6], logits[2, 0] = torch.inf, torch.nan
    first, five = right(logits, torch.tensor([6, 6, 6]), 7)
    assert first.tolist() == five.tolist() == [True, False, False]


@pytest.fixture
def net(randomise):
    net = randomise(create_model("cifar_seresnet8", num_classes=7, in_chans=1)).eval()
    for name in ("layer1.0.se", "layer2.0.se", "layer3.0.se"):
        nn.init.normal_(net.get_submodule(name).fc2.weight, std=10.0)
    return net


@pytest.fixture
def sample():
    sample = Sample(50, seed=0)
    for count in (20, 11):
        labels = torch.arange(count) % 7
        sample.offer(torch.randn(count, 1, 8, 8) * labels[:, None, None, None], labels)
    return sample


def judged(net, sample, **options):
    """Which images are right, and the gates, by the plain tools."""
    images = torch.cat(list(sample.batches(CPU)))
    with record(net, **options) as recording, torch.no_grad():
        logits = net(images)
    return logits.argmax(1) == sample.labels, recording.gates


def run(net, sample, means, seed=0):
    told = []
    with torch.no_grad():
        found, gates = leave_one_out(
            net, sample, means, device=CPU, classes=7, seed=seed, progress=lambda *done: told.append(done)
        )
    return found, gates, told


def test_against_plain_runs(net, sample):
    intact, gates = judged(net, sample)
    means = {site: values.double().mean(0) for site, values in gates.items()}
    found, kept, told = run(net, sample, means)
    assert found.sites == tuple(means)
    assert found.images == 31
    assert found.top1 == pytest.approx(100 * float(intact.float().mean()))
    for site, values in kept.items():
        torch.testing.assert_close(values, gates[site])
    ring = torch.randperm(31, generator=torch.Generator().manual_seed(0)).tolist()
    neighbour = dict(zip(ring, [ring[-1], *ring[:-1]], strict=True))
    order = [neighbour[image] for image in range(31)]
    changed = 0
    for site in (*means, ALL):
        sites = list(means) if site == ALL else [site]
        edits = {
            "mean": {s: means[s].float() for s in sites},
            "one": dict.fromkeys(sites, 1.0),
            "shuffled": {s: gates[s][order] for s in sites},
        }
        for how, edit in edits.items():
            effect = found.of(site, how)
            expected = Change.of(intact, judged(net, sample, edit=edit)[0])
            assert effect.top1 == expected
            assert effect.top5 is not None
            changed += expected.gained + expected.lost
    assert changed > 10  # else all of this would hold of a model that has no gates
    assert told[-1] == (13, 13)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_constant_gates_lose_nothing_at_their_mean_nor_shuffled(net, sample):
    for name in ("layer1.0.se", "layer2.0.se", "layer3.0.se"):
        nn.init.zeros_(net.get_submodule(name).fc2.weight)
    means = {site: values.double().mean(0) for site, values in judged(net, sample)[1].items()}
    found, _, _ = run(net, sample, means)
    for site in (*means, ALL):
        for how in ("mean", "shuffled"):
            assert found.of(site, how).top1 == Change(31, 0, 0)


def test_one_block_has_no_row_for_all(net, sample):
    means = {"layer2.0.se": judged(net, sample)[1]["layer2.0.se"].double().mean(0)}
    found, gates, _ = run(net, sample, means)
    assert [(e.site, e.how) for e in found.effects] == [("layer2.0.se", h) for h in ("mean", "one", "shuffled")]
    assert list(gates) == ["layer2.0.se"]


class Twice(nn.Module):
    """One block in two places, the second of which some images pass by where that is asked for."""

    def __init__(self, *, passes=None, attn="se"):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.se, self.fc, self.passes = create_block(attn, 16), nn.Linear(16, 7), passes

    def forward(self, x):
        x = self.se(self.first(x)).relu()
        if self.passes is None or len(x) != self.passes:
            x = self.se(self.second(x)).relu()
        return self.fc(x.amax((2, 3)))


@pytest.mark.parametrize("attn", ["se", "cbam"])
def test_a_block_that_is_used_twice_is_changed_one_call_at_a_time(attn, randomise):
    net, images, sample = randomise(Twice(attn=attn)).eval(), 3 * torch.randn(60, 1, 8, 8), Sample(60, seed=0)
    nn.init.normal_(net.fc.weight)
    with record(net) as recording, torch.no_grad():
        guesses = net(images).argmax(1)
    sample.offer(images, torch.where(torch.arange(60) % 4 > 0, guesses, 0))
    intact = guesses == sample.labels
    means = {site: values.double().mean(0) for site, values in recording.gates.items()}
    found, _, _ = run(net, sample, means)
    gates = [name for name in means if "#" not in name]
    assert [f"{name}#2" for name in gates] == [name for name in means if "#" in name]
    changed = set()
    for name, block in [(name, net.get_submodule(name)) for name in gates]:
        for call in (1, 2):
            calls = []

            def at_one(module, args, gate, calls=calls, call=call):
                calls.append(module)
                return torch.ones_like(gate) if len(calls) == call else None

            handle = block.gate.register_forward_hook(at_one)
            with torch.no_grad():
                expected = Change.of(intact, net(images).argmax(1) == sample.labels)
            handle.remove()
            assert found.of(name if call == 1 else f"{name}#2", "one").top1 == expected
            changed.add((expected.gained, expected.lost))
    assert len(changed) > 1


def test_no_image_keeps_its_gates():
    net, given, images, sample = Twice().eval(), [], torch.randn(9, 1, 8, 8), Sample(9, seed=0)
    nn.init.normal_(net.se.fc2.weight, std=10.0)
    sample.offer(images, torch.zeros(9).long())
    with torch.no_grad(), record(net) as recording:
        net(images)
    gates = recording.gates["se"]
    hook = net.se.register_forward_hook(lambda module, args, out: given.append((out / args[0]).mean((2, 3))))
    for seed in range(5):
        run(net, sample, {"se": gates.double().mean(0)}, seed=seed)
        shuffled = given[-2]  # in the first call of the last run
        apart = (shuffled[:, None] - gates).abs().amax(2)
        assert sorted(apart.argmin(1).tolist()) == list(range(9))
        assert float(apart.min(1).values.max()) < 1e-4
        assert (apart.argmin(1) != torch.arange(9)).all()
    hook.remove()


def test_a_block_that_some_images_pass_by(sample):
    net = Twice(passes=11).eval()
    with pytest.raises(InputError, match="block 'se#2' ran for 20 of 31 images"):
        run(net, sample, dict.fromkeys(("se", "se#2"), torch.ones(16)))
