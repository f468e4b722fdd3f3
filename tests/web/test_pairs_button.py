"""The button that opens the page of pairs, and what the page asks of the graph around it."""

import json
import shutil
from pathlib import Path

import browser

from ..captioning.stand_ins import SEEN, put_captioners

ROOT = Path(__file__).resolve().parents[2]
GRAPH = ROOT / "workflows" / "caption_pairs.json"
NAMES = list(SEEN)


def test_the_button_and_the_captioner_of_the_graph(set_up, tmp_path):
    """From Caption Pairs to its page; the graph's captioner describes two pairs there."""
    base, folder = Path(set_up.server.base), f"asked {tmp_path.name}"
    put_captioners(base / "models")
    for side in ("before", "after"):
        (base / "input" / folder / side).mkdir(parents=True)
        for name in NAMES:
            picture = ROOT / "sample_pairs" / side / f"{name}.jpg"
            shutil.copy(picture, base / "input" / folder / side)
    texts = base / "input" / folder / "after"
    with browser.front_end(set_up.server.url) as opened:
        opened.open_graph(json.loads(GRAPH.read_text(encoding="utf-8")))
        opened.set_widgets(
            {"control_folder": f"{folder}/before", "target_folder": f"{folder}/after"}
        )
        opened.look_at("KontextCaptionPairs")
        opened.press_button("KontextCaptionPairs", "kontext_pairs_page")
        frame = opened.page.frame_locator("iframe.kontext-page")
        frame.locator(".there").nth(2).wait_for()
        for place in (0, 1):
            frame.locator(".pair input[type=checkbox]").nth(place).click()
        frame.locator("[data-do=describe]").click()
        frame.locator("#describe").click()
        frame.locator("[data-do=accept]").nth(1).wait_for(timeout=120_000)
        assert list(texts.glob("*.txt")) == []  # nothing is saved yet
        frame.locator("[data-do=accept]").first.click()
        frame.locator("[data-do=accept]").nth(1).wait_for(state="detached")
        frame.locator("[data-do=edit]").click()
        frame.locator(".caption textarea").nth(1).fill("a ring of gold")
        frame.locator(".facts .state", has_text=set_up.say("saved", "已保存")).nth(1).wait_for()
        frame.locator("[data-do=accept]").first.wait_for(state="detached")

        # a graph that was saved on another server names a data set that this one does not know
        opened.page.evaluate("""() => {
            document.querySelector("iframe.kontext-page").remove();
            const node = app.graph.nodes.find(node => node.type === "KontextCaptionPairs");
            node.properties.kontextPairs.id = "0".repeat(12);
        }""")
        opened.press_button("KontextCaptionPairs", "kontext_pairs_page")
        frame.locator(".there").nth(2).wait_for()
    written = {path.stem: path.read_text("utf-8") for path in texts.glob("*.txt")}
    assert written.keys() == set(NAMES[:2]) and written[NAMES[1]] == "a ring of gold"
    assert written[NAMES[0]] == "an old print"  # what this captioner has learnt of these pictures
