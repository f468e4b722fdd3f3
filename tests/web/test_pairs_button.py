"""The button that opens the page of pairs, and what the page asks of the graph around it."""

import json
import shutil
from pathlib import Path

import pytest

import browser

from ..captioning.stand_ins import SEEN, put_captioners

ROOT = Path(__file__).resolve().parents[2]
GRAPH = ROOT / "workflows" / "caption_pairs.json"
NAMES = list(SEEN)

pytestmark = pytest.mark.skipif(
    browser.find_browser() is None, reason="browser: no Chromium, Chrome or Edge found"
)


def test_the_button_and_the_captioner_of_the_graph(server):
    """From Caption Pairs to its page; the graph's captioner describes two pairs there."""
    base = Path(server.base)
    put_captioners(base / "models")
    for side in ("before", "after"):
        (base / "input" / "asked" / side).mkdir(parents=True)
        for name in NAMES:
            shutil.copy(
                ROOT / "sample_pairs" / side / f"{name}.jpg", base / "input" / "asked" / side
            )
    with browser.front_end(server.url) as opened:
        opened.page.set_default_timeout(90_000)  # other tests may run beside this one
        opened.open_graph(json.loads(GRAPH.read_text(encoding="utf-8")))
        opened.set_widgets({"control_folder": "asked/before", "target_folder": "asked/after"})
        opened.look_at("KontextCaptionPairs")
        opened.page.wait_for_timeout(500)
        opened.press_button("KontextCaptionPairs", "kontext_pairs_page")
        frame = opened.page.frame_locator("iframe.kontext-page")
        frame.locator(".there").nth(2).wait_for(timeout=60_000)
        for place in (0, 1):
            frame.locator(".pair input[type=checkbox]").nth(place).click()
        frame.locator("[data-do=describe]").click()
        frame.locator("#describe").click()
        frame.locator("[data-do=accept]").nth(1).wait_for(timeout=120_000)
        assert (
            list((base / "input" / "asked" / "after").glob("*.txt")) == []
        )  # nothing is saved yet
        frame.locator("[data-do=accept]").first.click()
        frame.locator("[data-do=accept]").nth(1).wait_for(state="detached")
        frame.locator("[data-do=edit]").click()
        frame.locator(".caption textarea").nth(1).fill("a ring of gold")
        frame.locator(".facts .state", has_text="saved").nth(1).wait_for()
        frame.locator("[data-do=accept]").first.wait_for(state="detached")

        # a graph that was saved on another server names a data set that this one does not know
        opened.page.evaluate("""() => {
            document.querySelector("iframe.kontext-page").remove();
            const node = app.graph.nodes.find(node => node.type === "KontextCaptionPairs");
            node.properties.kontextPairs.id = "0".repeat(12);
        }""")
        opened.press_button("KontextCaptionPairs", "kontext_pairs_page")
        frame.locator(".there").nth(2).wait_for(timeout=60_000)
    texts = {path.stem: path.read_text("utf-8") for path in base.glob("input/asked/after/*.txt")}
    assert texts.keys() == set(NAMES[:2]) and texts[NAMES[1]] == "a ring of gold"
    assert texts[NAMES[0]] == "an old print"  # what this captioner has learnt of these pictures
