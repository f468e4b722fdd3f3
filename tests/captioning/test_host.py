"""Captioning in the real server: progress, cancelling, going on, and the page's presets."""

import shutil

import pytest
from kontext.captioning.presets import INSTRUCTIONS
from PIL import ImageOps

import browser

from . import tiny_models as tiny

COLOURS = [tiny.RED, tiny.BLUE] * 6


@pytest.fixture
def graph(server, tiny_captioner, tmp_path):
    """Twelve red and blue targets, captioned by a tiny Qwen3-VL, saved as .txt."""
    model = server.base / "models" / "LLM" / "Qwen3-VL"
    if not model.exists():
        shutil.copytree(tiny_captioner("qwen3_vl"), model)
    for number, colour in enumerate(COLOURS):
        target = tiny.picture(colour)
        for side, picture in (("before", ImageOps.invert(target)), ("after", target)):
            (tmp_path / side).mkdir(exist_ok=True)
            picture.save(tmp_path / side / f"{number:02}.png")
    folders = {f"{kind}_folder": str(tmp_path / side) for kind, side in
               (("control", "before"), ("target", "after"))}  # fmt: skip
    return {
        "pairs": {"class_type": "KontextLoadPairs", "inputs": folders},
        "captioner": {
            "class_type": "KontextVisionCaptioner",
            "inputs": {
                "model": "LLM/Qwen3-VL (Qwen3-VL)",
                "own_question": tiny.PROMPT,
                "max_tokens": 20,
                "precision": "fp32",
            },
        },
        "captions": {
            "class_type": "KontextCaptionPairs",
            "inputs": {
                "pairs": ["pairs", 0],
                "captioner": ["captioner", 0],
                "instruction": "Paint it.",
                "existing": "replace",
                "save_txt": True,
            },
        },
    }


@pytest.fixture
def run(server):
    import api_form

    nodes = server.get("/object_info")
    return lambda graph, watch=lambda event: None: server.run(
        api_form.with_defaults(graph, nodes), watch
    )


def saved(tmp_path):
    files = sorted((tmp_path / "after").glob("*.txt"))
    return [file.read_text(encoding="utf-8") for file in files]


EXPECTED = [f"Paint it. {tiny.RED_TEXT}", f"Paint it. {tiny.BLUE_TEXT}"] * 6


def test_every_picture_is_shown_with_its_caption(run, graph, tmp_path):
    events = []
    entry = run(graph, events.append)
    assert saved(tmp_path) == EXPECTED
    assert sum(event.kind == "preview" for event in events) >= len(COLOURS)
    told = [event.content["text"] for event in events if event.kind == "text"]
    assert any(tiny.RED_TEXT in text for text in told)
    assert told[-1].startswith("12 pairs: 12 described")
    (shown,) = entry["outputs"]["captions"]["text"]
    assert f"00: Paint it. {tiny.RED_TEXT}" in shown


def test_cancel_keeps_what_is_done_and_the_next_run_goes_on(server, run, graph, tmp_path):
    def cancel(event):
        bar = event.kind == "progress_state" and event.content["nodes"].get("captions")
        if bar and bar["value"] >= 3 and not cancelled:
            cancelled.append(bar["value"])
            server.interrupt()

    cancelled = []
    graph["captioner"]["inputs"]["seed"] = 1  # not what the journal knows
    entry = run(graph, cancel)
    assert "execution_interrupted" in dict(entry["status"]["messages"])
    done = len(saved(tmp_path))
    assert 3 <= done < len(COLOURS)
    assert saved(tmp_path) == EXPECTED[:done]

    entry = run(graph)
    assert saved(tmp_path) == EXPECTED
    (shown,) = entry["outputs"]["captions"]["text"]
    assert shown.startswith(f"12 pairs: {12 - done} described, {done} from an earlier run")


def test_a_preset_is_written_into_the_field_it_is_for(set_up):
    chosen = "relight (English)"
    with browser.front_end(set_up.server.url) as page:
        page.page.evaluate("""() => {
            app.graph.clear();
            window.node = LiteGraph.createNode("KontextCaptionPairs");
            node.pos = [300, 100];
            app.graph.add(node);
            Object.assign(app.canvas.ds, { scale: 1, offset: [0, 0] });
            app.canvas.setDirty(true, true);
        }""")
        if set_up.vue:
            label = set_up.say("instruction_preset", "总指令预设")
            row = page.page.get_by_test_id("node-widget").filter(has_text=label)
            row.get_by_test_id("widget-select-default-trigger").click()
            shown = set_up.say(chosen, "重新打光 (英文)")
            page.page.get_by_role("option", name=shown, exact=True).click()
        else:  # what the menu of the canvas does
            page.page.evaluate(
                """chosen => {
                    const preset = node.widgets.find(({ name }) => name === "instruction_preset");
                    const e = new PointerEvent("pointerup");
                    preset.setValue(chosen, { e, node, canvas: app.canvas });
                }""",
                chosen,
            )
        page.page.wait_for_function(
            """text => node.widgets.find(({ name }) => name === "instruction").value === text""",
            arg=INSTRUCTIONS[chosen],
        )
