"""The documentation in a browser, at two widths and in both themes: nothing broken, nothing cut, nothing fetched.

SDEDIFF_SITE names a folder that was built already; without it the pages are built first.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.project.pages import ROOT

pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.xdist_group("site"),
]

LARGEST = 2_000_000  # bytes of a page with all that it loads

# What is wrong on a page: overflow to the right, formulas left as text, pictures that do not load or have no text,
# links that a screen reader has no words for.
LOOK = """() => ({
    wide: document.documentElement.scrollWidth - window.innerWidth,
    raw: [...document.querySelectorAll('.math')].filter(m => !m.querySelector('mjx-container')).map(m => m.textContent),
    dollars: [...document.querySelectorAll('article p, article li, article td')]
        .map(p => [...p.childNodes].filter(n => n.nodeType == 3).map(n => n.textContent).join(''))
        .filter(text => /\\$[^$]*[\\\\^_{][^$]*\\$/.test(text)),
    broken: [...document.images].filter(i => !i.naturalWidth).map(i => i.src),
    nameless: [...document.querySelectorAll('article a[href]')]
        .filter(a => !a.innerText.trim() && !a.ariaLabel && !a.title && !a.querySelector('img[alt]'))
        .map(a => a.outerHTML),
    silent: [...document.querySelectorAll('article img')].filter(i => !i.alt || i.alt == i.src).map(i => i.src),
})"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    given = os.environ.get("SDEDIFF_SITE")
    if given:
        return Path(given)
    pytest.importorskip("sphinx")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-d", str(out / "trees"), "docs", str(out / "html")]
    subprocess.run(command, cwd=ROOT, check=True)
    return out / "html"


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("width", "theme"), [(1400, "light"), (400, "dark")])
def test_every_page_shows_what_it_says(site, browser, width, theme):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    page, said, loaded, faults = context.new_page(), [], set(), {}
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda r: said.append(f"fetched {r.url}") if r.url.startswith("http") else loaded.add(r.url))
    pages = sorted(p for p in site.rglob("*.html") if "_static" not in p.parts and "_modules" not in p.parts)
    assert len(pages) > 20
    for path in pages:
        said.clear()
        loaded.clear()
        page.goto(path.as_uri())
        page.wait_for_function(
            "!window.MathJax || !MathJax.startup || !MathJax.startup.promise || document.readyState == 'complete'"
        )
        page.evaluate("() => window.MathJax && MathJax.startup && MathJax.startup.promise")
        seen = page.evaluate(LOOK)
        found = {name: value for name, value in seen.items() if (value > 0 if name == "wide" else value)}
        size = sum(Path(unquote(urlsplit(url).path)).stat().st_size for url in loaded if url.startswith("file:"))
        if size > LARGEST:
            found["bytes"] = size
        if said or found:
            faults[str(path.relative_to(site))] = (list(said), found)
    context.close()
    assert faults == {}
