import io

from rich.console import Console
from rich.progress import Progress

from senet.cli.progress import ConsoleWatch

METRICS = {"epoch": 1, "train_loss": 1.5, "train_top1": 50.0, "val_top1": 60.0, "images_per_second": 1234.5}


def watched(monkeypatch, *, terminal):
    """A watch that has seen two epochs, and what it printed."""
    out = io.StringIO()
    made = Console(file=out, force_terminal=terminal, width=120, highlight=False)
    monkeypatch.setattr("senet.cli.progress.Console", lambda **_: made)
    watch = ConsoleWatch()
    assert isinstance(watch.bar, Progress)
    watch.loading(5, 10)
    watch.start("name", epochs=2, steps=3, done=0)
    for epoch in (1, 2):
        for _ in range(3):
            watch.step(8)
        watch.loss(1.25)
        watch.bar.refresh()
        watch.epoch({**METRICS, "epoch": epoch})
    watch.close()
    return out.getvalue()


def test_a_terminal_sees_a_bar_with_loss_and_time(monkeypatch):
    seen = watched(monkeypatch, terminal=True)
    for words in ("decoding images", "name epoch 2/2", "loss 1.250", "6/6", "left"):
        assert words in seen


def test_a_log_gets_a_line_an_epoch(monkeypatch):
    seen = watched(monkeypatch, terminal=False)
    assert seen.splitlines() == [
        f"name {epoch}/2: loss 1.500, top-1 50.00 % train, 60.00 % val, 1,234 images/s" for epoch in (1, 2)
    ]


def test_going_on_says_from_where(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr("senet.cli.progress.Console", lambda **_: Console(file=out, width=120))
    watch = ConsoleWatch()
    watch.start("name", epochs=2, steps=3, done=4)
    watch.close()
    assert "name: going on after 4 of 6 steps" in out.getvalue()


def test_a_detector_s_line_has_its_average_precision(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr("senet.cli.progress.Console", lambda **_: Console(file=out, width=120, highlight=False))
    watch = ConsoleWatch()
    watch.note("train: 1 box [left] out")
    watch.start("name", epochs=1, steps=1, done=0)
    watch.epoch({"epoch": 1, "train_loss": 1.5, "val_ap": 12.345, "val_ap50": None, "images_per_second": 3.0})
    watch.close()
    first, second = out.getvalue().splitlines()
    assert first == "train: 1 box [left] out"
    assert second == "name 1/1: loss 1.500, AP 12.35 % val, AP50 0.00 % val, 3 images/s"
