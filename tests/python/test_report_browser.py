"""The report as a browser shows it: whole, inside the window, with nothing asked of anybody."""

from __future__ import annotations

import io
import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from report_cases import (
    HOSTILE,
    add_intervals,
    make_folder,
    plan_for,
    results_for,
    save,
    simulated_scores,
)

from visatb.report import write_report
from visatb.report.names import shown

selenium = pytest.importorskip("selenium", reason="the tests' requirements are not installed")
from selenium.webdriver import Chrome, ChromeOptions  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402

WIDE, NARROW = 1200, 400
NAMES = {
    "three": ["caption", "vqa", "grounding"],
    "thirty": [f"{kind}-{of}" for kind in ("caption", "vqa", "box", "ocr", "chart", "math")
               for of in ("coco", "genome", "flickr", "web", "synthetic")],
    "hostile": list(HOSTILE),
}  # fmt: skip

SHOWN = """
const boxes = [...document.querySelectorAll('figure, .card, .box, h1, p, ul, dl, summary')];
return {
  scroll: document.documentElement.scrollWidth,
  window: window.innerWidth,
  outside: boxes.map(box => [box.outerHTML.slice(0, 60), box.getBoundingClientRect()])
    .filter(([, box]) => box.left < 0 || box.right > window.innerWidth + 0.5 || !box.width)
    .map(([html]) => html),
  figures: [...document.querySelectorAll('figure img')].map(image => {
    const box = image.getBoundingClientRect();
    return [image.complete && image.naturalWidth > 0, box.width, box.height, image.naturalWidth,
            image.naturalHeight];
  }),
  background: getComputedStyle(document.body).backgroundColor,
  ink: getComputedStyle(document.body).color,
  card: getComputedStyle(document.querySelector('.card')).backgroundColor,
};
"""
ROWS = """
return [...document.querySelectorAll('#weights-table tbody tr')]
  .map(row => [...row.cells].map(cell => cell.innerText));
"""


def browser_and_driver() -> tuple[str, str]:
    """Chromium and its driver, which tools/system-packages installs on Debian."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    browser = next((found for name in names if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        missing = "no chromium and chromedriver on PATH"
        try:
            system = platform.freedesktop_os_release()["ID"]
        except OSError:
            system = ""
        if system == "debian":
            pytest.fail(f"{missing}; tools/system-packages test installs them")
        pytest.skip(missing)
    return browser, driver


@pytest.fixture(scope="module")
def browser():
    program, driver = browser_and_driver()
    options = ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium refuses to be root with it
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with Chrome(options=options, service=Service(driver)) as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """A report of each kind, with all that it can hold."""
    made = {}
    for kind, names in NAMES.items():
        scores = simulated_scores(names)
        folder = make_folder(tmp_path_factory.mktemp(kind), scores, add_intervals)
        save(folder / "plan.json", plan_for(scores))
        save(folder / "results.json", results_for(names[:12], ["EW", "TLA", "VisATB"]))
        made[kind] = write_report(folder).page
    return made


def opened(browser: Chrome, page: Path, width: int, scheme: str = "light") -> dict[str, Any]:
    """Shows a page in a window of this width, and tells what is seen."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(page.as_uri())
    return browser.execute_script(SHOWN)


def pixels(browser: Chrome) -> np.ndarray:
    """[height, width, 3] of what stands in the window, 0 to 255."""
    picture = imread(io.BytesIO(browser.get_screenshot_as_png()), format="png")
    return np.rint(picture[..., :3] * 255).astype(int)


def brightness(colour: str) -> float:
    red, green, blue = (int(part) for part in colour[4:-1].split(","))
    return 0.3 * red + 0.59 * green + 0.11 * blue


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("kind", list(NAMES))
def test_everything_lies_inside_the_window_and_every_figure_is_seen(browser, pages, kind, width):
    seen = opened(browser, pages[kind], width)
    assert seen["window"] == width
    assert seen["scroll"] <= width
    assert seen["outside"] == []
    assert len(seen["figures"]) == 5
    for is_loaded, shown_width, shown_height, own_width, own_height in seen["figures"]:
        assert is_loaded
        assert shown_width > 250
        assert shown_height / shown_width == pytest.approx(own_height / own_width, rel=0.02)


@pytest.mark.parametrize("kind", list(NAMES))
def test_nothing_is_asked_for_and_nothing_complained_of(browser, pages, kind):
    browser.get("about:blank")
    for log in ("browser", "performance"):
        browser.get_log(log)
    opened(browser, pages[kind], WIDE)
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    own = pages[kind].as_uri()
    assert own in asked
    assert {url for url in asked if not url.startswith("data:")} == {own}


def test_the_log_would_show_a_breach_of_the_policy(browser, pages):
    broken = pages["three"].with_name("broken.html")
    text = pages["three"].read_text(encoding="utf-8")
    broken.write_text(
        text.replace("</main>", "<script>window.ran = 1</script><img src='x.png'></main>"),
        encoding="utf-8",
    )
    browser.get("about:blank")
    browser.get_log("browser")
    opened(browser, broken, WIDE)
    assert len(browser.get_log("browser")) >= 2
    assert browser.execute_script("return window.ran") is None


@pytest.mark.parametrize("kind", list(NAMES))
def test_the_weights_as_they_are_read_are_those_of_the_file(browser, pages, kind):
    opened(browser, pages[kind], NARROW)
    weights = json.loads(pages[kind].with_name("weights.json").read_text(encoding="utf-8"))
    rows = browser.execute_script(ROWS)
    assert [" ".join(row[0].split()) for row in rows] == [
        " ".join(shown(name).split()) for name in weights["tasks"]
    ]
    assert [row[2] for row in rows] == [
        f"{weights['weights'][name]:.4f}" for name in weights["tasks"]
    ]


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_light_and_dark_can_both_be_read_and_figures_stand_on_white(
    browser, pages, scheme, is_dark
):
    seen = opened(browser, pages["three"], WIDE, scheme)
    assert (brightness(seen["background"]) < 60) == is_dark
    assert abs(brightness(seen["background"]) - brightness(seen["ink"])) > 120
    assert seen["card"] == "rgb(255, 255, 255)"
    browser.execute_script("document.querySelector('#figure-weights').scrollIntoView()")
    found, counts = np.unique(pixels(browser).reshape(-1, 3), axis=0, return_counts=True)
    assert len(found) > 200
    for colour in ("#2c5f93", "#9cc3e0", "#e2a144"):  # the three shares of a weight
        channels = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
        assert counts[(abs(found - channels) <= 2).all(axis=1)].sum() > 300


def test_details_open_to_the_numbers_of_a_figure(browser, pages):
    opened(browser, pages["thirty"], WIDE)
    tall = "return document.documentElement.scrollHeight"
    before = browser.execute_script(tall)
    browser.execute_script("document.querySelector('#contribution details summary').click()")
    assert browser.execute_script(tall) > before + 500
    assert browser.execute_script(SHOWN)["scroll"] <= WIDE
