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
