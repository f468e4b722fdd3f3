"""The first ten minutes, in the user's own hands: from the template browser to a LoRA in a loader.

In every front end, in both languages.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

import browser
from host import PACK_FOLDER, ROOT

from ..servers import in_both_languages

GRAPH = ROOT / "workflows" / "train_kontext_lora.json"
TRAIN, COMPARE, LOAD = "KontextTrainLora", "KontextCompareCheckpoints", "KontextLoadPairs"
STEPS, SAVE_EVERY = 120, 40
FEW = dict(steps=STEPS, save_every=SAVE_EVERY, more="preview_steps: 2", resolution=64)
FEW |= dict(sampling_steps="2", checkpoints="last", most_pictures=1, holdout=2)

# Whether a LoRA can be chosen in a loader of the graph
OFFERED = """name => app.graph.nodes.some(node => node.widgets?.some(
    widget => widget.name === "lora_name" && widget.options.values.includes(name)))"""

# How many points the training curve has at every change
RECORD = """() => {
    window.seen = [];
    new MutationObserver(() => {
        const curve = document.querySelector("[data-part=chart] path")?.getAttribute("d");
        if (curve) seen.push(curve.split("L").length);
    }).observe(document.body, { childList: true, subtree: true });
}"""


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """Six pairs of the user's own, in folders with spaces and Chinese in their path."""
    home = tmp_path / "我的 图片 (2026)"
    sides = home / "修图前", home / "修图后"
    for side, source in zip(sides, ("before", "after"), strict=True):
        side.mkdir(parents=True)
        for number, path in enumerate(sorted((ROOT / "sample_pairs" / source).iterdir())[:6]):
            shutil.copy(path, side / f"戒指 {number}{path.suffix}")
    return sides


@contextmanager
def until_the_end(page, server) -> Iterator[None]:
    """What is queued in the block has ended after it."""
    before = set(server.get("/history"))
    yield
    while set(server.get("/history")) <= before or any(server.get("/queue").values()):
        page.page.wait_for_timeout(300)


@pytest.mark.slow
@in_both_languages
def test_from_the_template_browser_to_a_lora_in_a_loader(set_up, folders):
    server, say, (before, after) = set_up.server, set_up.say, folders
    name = f"走 {set_up.name}"
    with browser.front_end(server.url) as page:
        bare = set(page.errors)

        # the door
        page.open_template(PACK_FOLDER, "train_kontext_lora")
        assert page.red_nodes() == []

        # a mistake is said on the node, before anything runs
        page.set_widgets({"name": name, "control_folder": str(before / "ring"), **FEW})
        page.set_widgets({"target_folder": str(after)})
        page.press("^(Run|运行)")
        wrong = page.panel(LOAD, "status").locator(".error")
        wrong.wait_for(state="attached")
        assert wrong.inner_text().startswith(say("There is no folder", "没有文件夹"))
        page.errors.clear()  # a bare ComfyUI complains of a refused prompt, too

        # run, look at the chart, cancel
        page.set_widgets({"control_folder": str(before)})
        page.look_at(TRAIN)
        chart, status = page.panel(TRAIN, "chart"), page.panel(TRAIN, "status")
        with until_the_end(page, server):
            page.press("^(Run|运行)")
            chart.locator("svg").wait_for(state="attached", timeout=300_000)
            assert wrong.count() == 0
            page.press("^(Cancel current run|取消当前运行|Interrupt|取消)")
        says(status, say("Run again with the same name to continue", "再次运行即可继续"))

        # run again; another tab with the same graph is not about this run
        page.page.evaluate(RECORD)
        with until_the_end(page, server):
            page.press("^(Run|运行)")
            page.open_graph(json.loads(GRAPH.read_text(encoding="utf-8")))
            assert page.panel(TRAIN).count() == 0
            page.change_tab("Previous")
            chart.locator("svg").wait_for(state="attached")
        says(status, say(f"finished: {STEPS} steps", f"已完成：共 {STEPS} 步"))
        page.page.wait_for_function(f"() => seen.at(-1) === {STEPS}")
        points = page.page.evaluate("seen")
        assert points == sorted(points)
        says(chart, say("held-out ", "验证损失 "))
        chart.locator("circle").nth(STEPS // SAVE_EVERY - 1).wait_for(state="attached")
        page.page.wait_for_function(
            "side => document.querySelector('[data-part=chart] img.sample')?.naturalWidth >= side",
            arg=3 * 64,
        )
        # no preview in front of the chart, and the grid
        page.wait_for_pictures(TRAIN, [])
        page.look_at(COMPARE)
        if not set_up.vue:
            page.wait_for_pictures(COMPARE, [f"{server.url}/api/view"])

        # an error stands on its node
        page.set_widgets({"rank": 3})
        with until_the_end(page, server):
            page.press("^(Run|运行)")
        says(status.locator(".error"), name)
        assert "custom_nodes" not in status.inner_text()

        kept = keep_in_the_viewer(page, f"留 {set_up.name}")
        assert kept in server.loras()

        # the LoRA in a stock loader
        page.open_template(PACK_FOLDER, "use_kontext_lora")
        page.page.wait_for_function(OFFERED, arg=kept)
        page.set_widgets({"lora_name": kept, "steps": 2, "filename_prefix": f"walk {name}"})
        with until_the_end(page, server):
            page.press("^(Run|运行)")
        (saved,) = (server.base / "output").glob(f"walk {name}_*.png")
        assert len(Image.open(saved).getcolors(1 << 20)) > 100  # a picture

        assert set(page.errors) - bare == set()


def says(place, text: str) -> None:
    """Wait until a text stands there."""
    place.filter(has_text=text).wait_for(state="attached")


def keep_in_the_viewer(page: browser.Page, name: str) -> str:
    """Look at two pictures, vote once without names, keep the LoRA of the first row of results."""
    page.press_button(COMPARE, "kontext_viewer")
    viewer = page.page.frame_locator(".kontext-page")
    viewer.locator(".thumb.is-b").wait_for()
    assert viewer.locator(":root").get_attribute("data-theme") == "dark"  # as ComfyUI is
    viewer.locator("#vote").click()
    viewer.locator("#blind .tag >> visible=true").first.wait_for()
    viewer.locator("#blind [data-choice=right]").click()
    viewer.locator(".count", has_text="1").wait_for()
    viewer.locator("#done").click()  # leads to the results
    viewer.locator("[data-action=keep]").first.click()
    viewer.locator("form.keep input").fill(name)
    viewer.locator("form.keep button").click()
    viewer.locator("form.keep span", has_text=name).wait_for()
    for _ in ("results", "viewer"):
        viewer.locator("body").press("Escape")
    page.page.wait_for_selector(".kontext-page", state="detached")
    return f"{name}.safetensors"
