"""The HTML report of a sweep: what it holds, and in a browser that it sorts, filters and shows settings to copy."""

import dataclasses
import json
import re
import shutil

import pytest

from sdediff.benchmark.page import python_of

pytest.importorskip("plotly")


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    return report.page(tmp_path_factory.mktemp("page") / "report.html")


def test_the_page_holds_the_rows_and_fetches_nothing(report, page):
    text = page.read_text()
    held = json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.S)[1])
    assert [row["solver"] for row in held["rows"]] == [row.solver for row in report.rows]
    for row, stored in zip(report.rows, held["rows"], strict=True):
        assert stored["quality"]["energy"] == list(row.quality["energy"])
    assert not re.search(r"""<(script|link|img)[^>]*(src|href)=["']?http""", text)
    assert page.stat().st_size < 6e6


def test_the_settings_to_copy_repeat_a_row(report):
    import torch

    import sdediff as sd

    row = next(row for row in report.rows if row.solver == "ddim" and row.budget == 4)
    target = sd.target("target_m")
    names = {"sd": sd, "model": target.model(sd.VP()), "n": 3, "shape": target.shape}
    x = eval(python_of(row).removeprefix("x = ").replace("(n, ...)", "(n, *shape)"), names)
    expected = sd.sample(names["model"], (3, *target.shape), solver="ddim", calls=4, grid=row.grid)
    assert torch.equal(x, expected)


def test_the_settings_of_a_contender_run_it_again(report):
    import sdediff as sd

    class Asked:
        @staticmethod
        def bench(*given, **options):
            return given, options

    row = next(row for row in report.rows if row.solver == "ddim" and row.budget == 4)
    theirs = dataclasses.replace(row, library="torchdiffeq", solver="euler")
    adaptive = dataclasses.replace(theirs, solver="dopri5", budget=None)
    for one, budget in ((theirs, 4), (adaptive, None)):
        given, options = eval(python_of(one), {"sd": Asked})
        again = sd.bench(*given, **options, samples=20, seeds=1, distances=["energy"], progress=False)
        [found] = [found for found in again.rows if found.name == one.name and found.budget == budget]
        assert (found.task, found.tolerance) == (one.task, None)
    of_network = python_of(dataclasses.replace(theirs, task="digits-vp"))
    assert of_network.startswith('sd.bench(["digits-vp"], solvers=["ddim"], contenders=["torchdiffeq:euler"]')


@pytest.mark.browser
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
@pytest.mark.parametrize(("width", "theme"), [(1400, "light"), (400, "light"), (1400, "dark"), (400, "dark")])
def test_the_page_sorts_filters_and_copies(page, report, width, theme):
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab, said = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme), []
        tab.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
        tab.goto(page.as_uri())
        tab.wait_for_selector("#chart .main-svg")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(255, 255, 255)" if theme == "light" else "rgb(21, 24, 27)"
        )
        tab.select_option("#quality", "energy")
        tab.click("th button:text-is('energy')")
        values = [float(cell.split()[0]) for cell in _column(tab, "energy")[1:]]
        assert values == sorted(values)
        tab.click("th button:text-is('energy')")
        assert [float(cell.split()[0]) for cell in _column(tab, "energy")[1:]] == sorted(values, reverse=True)
        tab.fill("#filter", "ddim")
        assert {cell.lstrip("\u25cf ") for cell in _column(tab, "solver")} == {"real data", "ddim"}
        tab.click("tbody tr:nth-child(2)")
        assert 'solver="ddim"' in tab.inner_text("#code")
        browser.close()
    assert said == []


def _column(tab, title):
    heads = tab.eval_on_selector_all("thead th", "cells => cells.map(c => c.textContent)")
    rows = tab.eval_on_selector_all("tbody tr", "rows => rows.map(r => [...r.cells].map(c => c.textContent))")
    return [row[heads.index(title)] for row in rows]
