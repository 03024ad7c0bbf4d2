from dataclasses import replace

from senet.cli import show
from senet.models.weights.own.records import read_records


def test_a_record_tells_its_spread_if_there_is_one(capsys):
    def printed(accuracies):
        seeds = {str(seed): top1 for seed, top1 in enumerate(accuracies)}
        show.print_records([replace(read_records()[0], seed_top1=seeds)])
        return " ".join(capsys.readouterr().out.split())

    assert printed([90.05]).endswith("images right; one seed only, 90.05 % before rounding to float16.")
    assert printed([90.0, 91.0]).endswith("images right; over 2 seeds 90.50 ± 0.71 % before rounding to float16.")


def test_names_of_users_are_no_markup(capsys):
    show.print_predictions({"[red]x.png": [("[bold]cat", 0.5)]})
    assert "[red]x.png: [bold]cat 50.0 %" in capsys.readouterr().out
    show.print_rows("a", "b", [("[red]", "[bold]")])
    assert "[red]" in capsys.readouterr().out


def test_a_summary_says_what_a_detector_is_judged_by(capsys):
    summary = {
        "model": "seresnet18", "parameters": 1000, "ap": 28.804, "best_ap": 29.0, "val_images": 87, "epochs": 6,
        "best_epoch": 5, "seconds": 1.0, "run": "runs/cells",
    }  # fmt: skip
    show.print_summary(summary)
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.startswith("seresnet18 with 1,000 parameters: 28.80 % AP on 87 validation images after 6 epochs")
    assert "(best 29.00 % after epoch 5)" in printed
