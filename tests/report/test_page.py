"""The page is whole in itself and says what was run."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from tests.report.made import MadeRun, comparison

from spry.report.page import write_report

VOID = {"meta", "img", "br", "link", "source"}


class Balance(HTMLParser):
    """Checks that tags close in order."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = comparison(tmp_path_factory.mktemp("page") / "all", seeds=2)
    return write_report([folder], folder / "report")


def test_every_file_is_there(report):
    assert [image.name for image in report.images] == ["curves.png", "costs.png", "tradeoff.png"]
    assert all(image.read_bytes().startswith(b"\x89PNG") for image in report.images)
    assert report.markdown.read_text().startswith("**tweets, minilm, 2 seeds**")


def test_the_page_needs_nothing_else(report):
    page = report.page.read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "http" not in re.sub(r'"data:[^"]*"', "", page)
    parser = Balance()
    parser.feed(page)
    assert parser.open == []


def test_phones_get_figures_of_their_own_and_are_told_to_swipe(report):
    page = report.page.read_text()
    assert page.count("<picture>") == page.count('<source media="(max-width: 44rem)"') == 3
    wide, narrow = re.findall(r'(?:srcset|<img src)="(data:[^"]*)"', page)[:2]
    assert wide != narrow
    assert "Swipe sideways: the table has 13 columns" in page
    assert page.count('<div class="wide" role="region" tabindex="0"') == page.count("<table")


def test_a_name_stays_beside_its_colour(report):
    """In one line that breaks within the name at most."""
    named = r'<span class="named"><span class="swatch"[^>]*></span><span>head_only</span></span>'
    assert re.search(named, report.page.read_text())


def test_pictures_say_what_they_show(report):
    texts = re.findall(r'alt="([^"]*)"', report.page.read_text())
    assert len(texts) == 3 and all(text.endswith("The tables have the numbers.") for text in texts)


def test_the_page_says_what_was_run_with_which_versions(report):
    page = report.page.read_text()
    for told in (
        "torch 2.13.0",
        "2 CPUs",
        "spry compare quickstart --methods head_only,spry,fedavg",
        "100 clients (Dirichlet 1.0), 10 a round, LoRA of rank 1; 20 rounds; seeds 0, 1",
        "loss is nan",
        "layer.3.query",
        "clients_per_round = 10",
    ):
        assert told in page


def test_names_are_escaped(tmp_path):
    run = MadeRun(dataset="<b>&data</b>").write(tmp_path / "run")
    page = write_report([run], tmp_path / "report").page.read_text()
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;data" in page


def test_data_sets_have_sections_and_figures_of_their_own(tmp_path):
    runs = [MadeRun(dataset=name).write(tmp_path / name) for name in ("tweets", "bbc-news")]
    repeated = MadeRun(dataset="tweets").write(tmp_path / "again")
    report = write_report([*runs, repeated], tmp_path / "report")
    page = report.page.read_text()
    assert page.count("<section>") == 2
    assert len(report.images) == 2
    assert f"shown already: {repeated}" in page


def test_a_page_can_be_written_before_the_first_round_ends(tmp_path):
    report = write_report([MadeRun(rounds=0, finished=False).write(tmp_path / "run")], tmp_path / "report")
    assert "in progress" in report.page.read_text()
