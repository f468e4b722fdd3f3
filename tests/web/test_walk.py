"""The first ten minutes, in the user's own hands: from the template browser to a LoRA in a loader.

In every front end; in the other language of each too with KONTEXT_ALL_WALKS=1.
"""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

import browser
from host import PACK_FOLDER, ROOT

GRAPH = ROOT / "workflows" / "train_kontext_lora.json"
TRAIN, COMPARE, LOAD = "KontextTrainLora", "KontextCompareCheckpoints", "KontextLoadPairs"
STEPS, SAVE_EVERY = 120, 40
FEW = dict(steps=STEPS, save_every=SAVE_EVERY, more="preview_steps: 2", resolution=64)
FEW |= dict(sampling_steps="2", checkpoints="last", most_pictures=1, holdout=2)

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


def wait_for_the_end(page, server) -> None:
    page.page.wait_for_timeout(1000)
    while any(server.get("/queue").values()):
        page.page.wait_for_timeout(300)
    page.page.wait_for_timeout(1000)


@pytest.mark.slow
def test_from_the_template_browser_to_a_lora_in_a_loader(set_up, folders):
    server, (before, after) = set_up.server, folders
    say = (
        (lambda english, chinese: chinese) if set_up.chinese else (lambda english, chinese: english)
    )
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
        wrong.wait_for(state="attached", timeout=60_000)
        assert wrong.inner_text().startswith(say("There is no folder", "没有文件夹"))
        page.errors.clear()  # a bare ComfyUI complains of a refused prompt, too

        # run, look at the chart, cancel
        page.set_widgets({"control_folder": str(before)})
        page.look_at(TRAIN)
        page.press("^(Run|运行)")
        chart, status = page.panel(TRAIN, "chart"), page.panel(TRAIN, "status")
        chart.locator("svg").wait_for(state="attached", timeout=300_000)
        assert wrong.count() == 0
        page.press("^(Cancel current run|取消当前运行|Interrupt|取消)")
        wait_for_the_end(page, server)
        stopped = status.inner_text()
        assert say("Run again with the same name to continue", "再次运行即可继续") in stopped

        # run again; another tab with the same graph is not about this run
        page.page.evaluate(RECORD)
        page.press("^(Run|运行)")
        page.open_graph(json.loads(GRAPH.read_text(encoding="utf-8")))
        assert page.panel(TRAIN).count() == 0
        page.change_tab("Previous")
        chart.locator("svg").wait_for(state="attached", timeout=60_000)
        wait_for_the_end(page, server)
        points = page.page.evaluate("seen")
        assert points == sorted(points) and points[-1] == STEPS
        assert chart.locator("circle").count() >= STEPS // SAVE_EVERY
        assert say("held-out ", "验证损失 ") in chart.inner_text()
        assert chart.locator("img.sample").evaluate("image => image.naturalWidth") >= 3 * 64
        assert say(f"finished: {STEPS} steps", f"已完成：共 {STEPS} 步") in status.inner_text()
        assert page.pictures(TRAIN) == []  # no preview in front of the chart

        # the grid
        page.look_at(COMPARE)
        page.page.wait_for_timeout(1500)
        if not set_up.vue:
            sources = [source.partition("?")[0] for source in page.pictures(COMPARE)]
            assert sources == [f"{server.url}/api/view"]

        # an error stands on its node
        page.set_widgets({"rank": 3})
        page.press("^(Run|运行)")
        wait_for_the_end(page, server)
        assert name in status.locator(".error").inner_text()
        assert "custom_nodes" not in status.inner_text()

        kept = keep_in_the_viewer(page, f"留 {set_up.name}")
        assert kept in server.loras()

        # the LoRA in a stock loader
        page.open_template(PACK_FOLDER, "use_kontext_lora")
        page.page.evaluate("() => app.refreshComboInNodes()")
        page.set_widgets({"lora_name": kept, "steps": 2, "filename_prefix": f"walk {name}"})
        page.press("^(Run|运行)")
        wait_for_the_end(page, server)
        (saved,) = (server.base / "output").glob(f"walk {name}*.png")
        assert len(Image.open(saved).getcolors(1 << 20)) > 100  # a picture

        assert set(page.errors) - bare == set()


def keep_in_the_viewer(page: browser.Page, name: str) -> str:
    """Look at two pictures, vote once without names, keep the LoRA of the first row of results."""
    page.press_button(COMPARE, "kontext_viewer")
    viewer = page.page.frame_locator(".kontext-page")
    viewer.locator(".thumb.is-b").wait_for(timeout=60_000)
    assert viewer.locator(":root").get_attribute("data-theme") == "dark"  # as ComfyUI is
    viewer.locator("#vote").click()
    viewer.locator("#blind .tag >> visible=true").first.wait_for()
    viewer.locator("#blind [data-choice=right]").click()
    viewer.locator(".count", has_text="1").wait_for()
    viewer.locator("#done").click()  # leads to the results
    viewer.locator("[data-action=keep]").first.click()
    viewer.locator("form.keep input").fill(name)
    viewer.locator("form.keep button").click()
    viewer.locator("form.keep span", has_text=name).wait_for(timeout=60_000)
    for _ in ("results", "viewer"):
        viewer.locator("body").press("Escape")
    page.page.wait_for_selector(".kontext-page", state="detached")
    return f"{name}.safetensors"
