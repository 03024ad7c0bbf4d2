from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from senet.analysis.lab.answer import answer
from senet.analysis.lab.excite import excite
from senet.analysis.lab.leave_out import ALL
from senet.analysis.lab.page import check_folder, panels, write_excitation
from senet.errors import InputError
from senet.models import create_model

HOSTILE = "<script>document.title='owned'</script>"


def lab(attn="se", *, classes=("cat", HOSTILE, "猫", "_$x$", "x" * 120, "owl"), **options):
    torch.manual_seed(0)
    net = create_model("cifar_resnet8", num_classes=len(classes), in_chans=1, attn=attn)
    for module in net.modules():
        if hasattr(module, "fc2"):
            nn.init.normal_(module.fc2.weight, std=5.0)
    labels = torch.arange(24) % len(classes)
    images = torch.randn(24, 1, 16, 16) * labels[:, None, None, None]
    return excite(net, [(images, labels)], classes, name="a <net>", **options)


@pytest.fixture(scope="module")
def found():
    return lab(portraits=1, blocks="layer[12]*")


def test_panels_are_the_papers_of_its_network():
    sites = [f"layer{s}.{b}.se" for s, blocks in ((1, 3), (2, 4), (3, 6), (4, 3)) for b in range(blocks)]
    assert panels(sites) == ["layer1.2.se", "layer2.3.se", "layer3.5.se", "layer4.0.se", "layer4.1.se", "layer4.2.se"]


def test_panels_of_other_networks():
    assert panels(["se"]) == ["se"]
    assert panels([f"features.{i}.se" for i in range(6)]) == [f"features.{i}.se" for i in range(6)]
    many = [f"features.{i}.block.{j}.fc" for i in range(20) for j in (2,)]
    assert len(panels(many)) == 12
    assert (panels(many)[0], panels(many)[-1]) == (many[0], many[-1])
    assert panels([f"a{i}.b.se" for i in range(7)] + ["a7.b.se#2"])[-1] == "a7.b.se#2"


@pytest.fixture(scope="module")
def written(found, tmp_path_factory):
    """The page, and the numbers."""
    return write_excitation(found, tmp_path_factory.mktemp("lab") / "a" / "b")


def test_what_is_written(found, written):
    page, numbers = written
    assert (page.name, numbers.name) == ("excitation.html", "excitation.json")
    assert json.loads(numbers.read_text()) == found.to_dict()
    figures = page.parent / "figures"
    names = ["effective-rank", "leave-one-out", "spread", "image1"]
    names += [f"{what}-layer{i}.0.se" for what in ("figure6", "figure7", "similarity") for i in (1, 2)]
    assert sorted(path.name for path in figures.iterdir()) == sorted(f"{n}.{s}" for n in names for s in ("svg", "pdf"))
    for name in names:
        assert ElementTree.parse(figures / f"{name}.svg").getroot().tag.endswith("svg")
        assert (figures / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_the_page(found, written):
    html = written[0].read_text()
    order = [
        "The gates of a &lt;net&gt;</h1>", 'class="verdict"', "the blocks looked at (2 of 3)", "Which channels",
        "How much the gates", "Some images",
    ]  # fmt: skip
    places = [html.index(part) for part in order]
    assert places == sorted(places)
    assert answer(found) in html
    assert html.count("<svg") == 3 + 2 * 3 + 1
    assert "<script" not in html
    sources = re.findall(r'(?:src|xlink:href|<link[^>]*href)="([^"#]+)', html)
    assert sources
    assert all(source.startswith("data:") for source in sources)
    ids = re.findall(r'<[^>]*\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_maps_of_gates_that_differ_over_positions(tmp_path):
    page, _ = write_excitation(lab("cbam", portraits=1, blocks="layer3*"), tmp_path)
    maps = {path.name for path in (tmp_path / "figures").glob("image1-*.svg")}
    assert maps == {"image1-layer3.0.se.spatial.svg"}
    assert not (tmp_path / "figures" / "figure6-layer3.0.se.spatial.svg").exists()  # of one channel
    html = page.read_text()
    assert "made the same everywhere" in html
    assert "Small maps" in html


def test_two_classes_no_images_and_the_same_bytes_again(tmp_path):
    page, _ = write_excitation(lab(classes=("a", "b"), portraits=0, blocks="layer1*"), tmp_path)
    html = page.read_text()
    assert "Correlation" not in html  # of two classes there is one, and it is a number
    assert "Some images" not in html
    assert "all blocks" not in html
    assert "top-5" not in html
    bytes_of = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    write_excitation(lab(classes=("a", "b"), portraits=0, blocks="layer1*"), tmp_path)
    assert all(path.read_bytes() == content for path, content in bytes_of.items())


def test_a_place_that_cannot_be_written(found, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot make the folder"):
        write_excitation(found, tmp_path / "file")
    assert check_folder(tmp_path / "new") == tmp_path / "new" / "figures"


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


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1280, "dark")])
def test_in_a_browser(browser, written, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
    page, problems = context.new_page(), []
    page.on("console", lambda message: problems.append(message.text))
    page.on("requestfailed", lambda request: problems.append(request.url))
    page.goto(written[0].as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.title() == "The gates of a <net>"
    letters = """Math.min(...[...document.querySelectorAll('figure svg text')].map(text => {
        const {a, b} = text.getScreenCTM();
        return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(a, b);
    }))"""
    assert page.evaluate(letters) >= 9
    assert problems == []
    context.close()


def test_gates_over_positions_are_told_of_without_images_too(tmp_path):
    page, _ = write_excitation(lab("cbam", portraits=0), tmp_path)
    assert "made the same everywhere" in page.read_text()
    page, _ = write_excitation(lab(portraits=0), tmp_path)
    assert "over positions" not in page.read_text()


def test_figures_of_the_same_file_name_are_numbered(tmp_path):
    found = lab(portraits=0, blocks="layer1*")
    (name,) = found.sites
    alike = [name.replace(".se", end) for end in (".se:2", ".se#2", ".SE#2")]
    effects = tuple(replace(e, site=site) for site in (*alike, ALL) for e in found.leave_out.effects)
    changed = {key: {site: getattr(found, key)[name] for site in alike} for key in ("sites", "spectra", "similarity")}
    write_excitation(replace(found, **changed, leave_out=replace(found.leave_out, effects=effects)), tmp_path)
    files = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {f"figure6-layer1.0.{end}.svg" for end in ("se_2", "se_2-2", "SE_2-3")} <= files
