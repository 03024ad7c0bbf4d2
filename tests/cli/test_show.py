from senet.cli import show


def test_names_of_users_are_no_markup(capsys):
    show.print_predictions({"[red]x.png": [("[bold]cat", 0.5)]})
    assert "[red]x.png: [bold]cat 50.0 %" in capsys.readouterr().out
    show.print_rows("a", "b", [("[red]", "[bold]")])
    assert "[red]" in capsys.readouterr().out
