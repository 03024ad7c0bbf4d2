from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

from senet.analysis.compare import compare
from senet.analysis.gates.measure import GateStatistics
from senet.analysis.report import Example, Report, render
from senet.errors import InputError

HOSTILE = "<script>document.title='owned'</script>"
CLASSES = ("cat", HOSTILE, "猫", "_$x$", "x" * 120)
BASE, SE = "resnet8", "seresnet8"


def run(model, seed):
    return f"runs/<img src=x onerror=alert(1)>/{model}-{seed}"


def comparison(models=(BASE, SE), seeds=3):
    return compare(
        {
            "run": run(model, seed), "recipe": "demo", "model": model, "parameters": 75_002 + 791 * i, "seed": seed,
            "epochs": 4, "seconds": 60.0 + 5 * i, "top1": 90 + seed + i * (0.5 - 0.1 * seed), "top5": None,
            "val_loss": 0.3, "dataset": "fashion-mnist",
            "train_images": 900, "val_images": 100,
        }
        for i, model in enumerate(models) for seed in range(seeds)
    )  # fmt: skip


def gates():
    generator = torch.Generator().manual_seed(0)
    statistics = GateStatistics(CLASSES)
    for i in range(15):
        statistics.update(f"layer{i}.se", torch.rand(20, 8, generator=generator), torch.arange(20) % 5)
    return statistics


def full():
    generator = torch.Generator().manual_seed(0)
    runs = [run(model, seed) for model in (BASE, SE) for seed in range(3)]
    history = [
        {"epoch": e, "train_loss": 2 / e, "train_top1": 50.0, "val_loss": 3 / e, "val_top1": 80.0 + e, "val_top5": None}
        for e in range(1, 5)
    ]
    predictions = [("cat", 0.8), (HOSTILE, 0.15), ("x" * 120, 0.05)]
    images = (
        torch.randint(0, 256, (28, 28), generator=generator, dtype=torch.uint8),
        torch.randint(0, 256, (120, 160, 3), generator=generator, dtype=torch.uint8),
    )
    return Report(
        title="SE or not?",
        comparison=comparison(),
        classes=CLASSES,
        histories=dict.fromkeys(runs, history),
        confusions=dict.fromkeys(runs, torch.eye(5) * 9 + 1),
        examples=[
            Example(image, truth, {run(BASE, 0): predictions, run(SE, 0): predictions})
            for image, truth in zip(images, ("cat", HOSTILE), strict=True)
        ],
        gates={run(SE, 0): gates()},
        recipe_diff=f'--- resnet8\n+++ seresnet8\n-    "name": "{HOSTILE}",\n+    "name": "seresnet8",' + "-" * 200,
        versions={"senet": "0.1.0", "torch": "2.15"},
    )


def plain():
    return Report(title="One run", comparison=comparison((BASE,), seeds=1), classes=CLASSES)


@pytest.fixture
def written(tmp_path):
    def write(report):
        render(report, tmp_path / "report.html")
        return (tmp_path / "report.html").read_text()

    return write


def test_the_answer_comes_first(written):
    html = written(full())
    verdict = "seresnet8 is 0.40 points of top-1 better than resnet8 (sd of the difference 0.10, n = 3, p = 0.02)."
    places = [
        html.index(part)
        for part in ("SE or not?</h1>", verdict, "<table>", "How they learnt", "What they mistake", "Some images",
                     "What the gates do", "The runs", "Made with")
    ]  # fmt: skip
    assert places == sorted(places)
    assert "seresnet8 has 791 more parameters (1.1 %)." in html
    assert "interval of the mean difference is +0.15 to +0.65 points" in html
    assert "91.00 ± 1.00" in html
    assert "12 of 15 blocks" in html
    assert "would have 20.0 % there by chance" in html  # (5 classes - 1) / 20 images


def test_training_by_epoch(written):
    """Every epoch of a short training; those that were asked for; none without a history."""

    def cells(html):
        rows = html.split('aria-label="Training by epoch"')[1].split("</table>")[0].split("<tr>")[2:]
        return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]

    histories = full().histories
    every = cells(written(Report("t", comparison(), CLASSES, histories=histories)))
    assert [row[0] for row in every] == ["1", "", "2", "", "3", "", "4", ""]
    assert every[2] == ["2", BASE, "1.000 ± 0.000", "50.00 ± 0.00", "1.500 ± 0.000", "18.00 ± 0.00", "–"]
    chosen = cells(written(Report("t", comparison(), CLASSES, histories=histories, epochs=(1, 4))))
    assert [row[:2] for row in chosen] == [["1", BASE], ["", SE], ["4", BASE], ["", SE]]
    assert "Training by epoch" not in written(plain())


def test_nothing_given_is_taken_for_html(written):
    html = written(full())
    assert "<script" not in html
    assert "<img src=x" not in html
    assert "&lt;script&gt;" in html


def test_nothing_is_loaded(written):
    sources = re.findall(r'(?:src|xlink:href|<link[^>]*href)="([^"#]+)', written(full()))
    assert sources
    assert all(source.startswith("data:") for source in sources)


def test_ids_are_unique_and_the_bytes_are_the_same_again(written):
    html = written(full())
    ids = re.findall(r'<[^>]*\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert written(full()) == html


def test_one_plain_run(written):
    html = written(plain())
    assert "resnet8 reaches 90.00 % top-1; one seed shows nothing about spread." in html
    for part in ("How they learnt", "What they mistake", "Some images", "What the gates do", "Made with", "Better"):
        assert part not in html


def test_matrices_of_an_arm_are_added_up(written):
    right, wrong = torch.tensor([[2, 0], [0, 2]]), torch.tensor([[0, 2], [0, 2]])
    report = Report(
        title="t",
        comparison=comparison((BASE,)),
        classes=("a", "b"),
        confusions={run(BASE, 0): right, run(BASE, 2): wrong},
    )
    assert "Most often in resnet8 (seeds 0, 2):\na taken for b, 50.0 %." in written(report)


def test_gates_that_never_move(written):
    statistics = GateStatistics(CLASSES)
    statistics.update("layer1.se", torch.full((5, 4), 0.5), torch.arange(5))
    html = written(Report("t", comparison((BASE,), 1), CLASSES, gates={run(BASE, 0): statistics}))
    assert "No gate of layer1.se moves at all." in html


def test_shares_of_gates_outside_of_0_and_1_are_not_said(written):
    """A mean of -0.9, as tanh gives, is not shut, and one of 1.9 is not just open."""
    statistics = GateStatistics(CLASSES)
    for name, value in (("inside", 0.99), ("below", -0.9), ("above", 1.9)):
        statistics.update(name, torch.full((10, 3), value) + torch.rand(10, 1) / 1000, torch.arange(10) % 5)
    html = written(Report("t", comparison((BASE,), 1), CLASSES, gates={run(BASE, 0): statistics}))
    cells = {name: re.findall("<td>(.*?)</td>", html.split(f">{name}</th>")[1].split("</tr>")[0])[-2:]
             for name in ("inside", "below", "above")}  # fmt: skip
    assert cells == {"inside": ["0 %", "100 %"], "below": ["–", "–"], "above": ["–", "–"]}


def test_what_belongs_to_no_run_is_refused():
    with pytest.raises(InputError, match="run 'other', which is not compared"):
        Report("t", comparison(), CLASSES, gates={"other": gates()})
    with pytest.raises(InputError, match=r"\(3, 3\) for 5 classes"):
        Report("t", comparison(), CLASSES, confusions={run(BASE, 0): torch.eye(3)})


@pytest.mark.parametrize("image", [torch.rand(8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8)])
def test_an_image_of_another_kind_is_refused(tmp_path, image):
    report = Report("t", comparison(), CLASSES, examples=[Example(image, "cat", {})])
    with pytest.raises(InputError, match="give uint8"):
        render(report, tmp_path / "report.html")


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Not a directory"):
        render(plain(), tmp_path / "file" / "report.html")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="is a folder; name the file to write"):
        render(plain(), tmp_path / "folder")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_a_path_that_is_no_text(tmp_path):
    report = Report(title="\udcff", comparison=comparison(), classes=CLASSES)
    render(report, tmp_path / "report.html")
    assert "<h1>?</h1>" in (tmp_path / "report.html").read_text()


def test_without_jinja2(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(InputError, match=r"pip install 'senet\[plot\]'"):
        render(plain(), tmp_path / "report.html")


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser, path: Path, *, width: int, scheme: str):
    """The page, and what went wrong while it was opened without a network."""
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
    page, problems = context.new_page(), []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("requestfailed", lambda request: problems.append(request.url))
    page.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
    page.goto(path.as_uri())
    return page, problems


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("report", [full, plain])
def test_in_a_browser(browser, tmp_path, report, width, scheme):
    render(report(), tmp_path / "report.html")
    page, problems = opened(browser, tmp_path / "report.html", width=width, scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.title() == report().title
    assert page.locator("h1").inner_text() == report().title
    assert all(box["width"] > 200 for box in (svg.bounding_box() for svg in page.locator("figure svg").all()))
    # Text contrasts with the page, in figures too, and no letter of a figure is too small for a phone.
    ink, paper = (
        sum(map(int, re.findall(r"\d+", page.evaluate(script))[:3]))
        for script in (
            "getComputedStyle(document.querySelector('figure svg text')).fill",
            "getComputedStyle(document.documentElement).backgroundColor",
        )
    )
    assert (ink < 200 and paper > 700) if scheme == "light" else (ink > 650 and paper < 100)
    letters = """Math.min(...[...document.querySelectorAll('figure svg text')].map(text => {
        const {a, b} = text.getScreenCTM();
        return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(a, b);
    }))"""
    assert page.evaluate(letters) >= 9
    assert problems == []
    page.context.close()
