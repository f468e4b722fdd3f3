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


@pytest.mark.skipif(browser.find_browser() is None, reason="browser: no Chromium found")
def test_a_preset_is_written_into_the_field_it_is_for(server):
    with browser.front_end(server.url) as page:
        text = page.page.evaluate(
            """() => {
                const node = LiteGraph.createNode("KontextCaptionPairs");
                app.graph.add(node);
                const find = (name) => node.widgets.find((widget) => widget.name === name);
                const preset = find("instruction_preset");
                preset.value = "relight (English)";
                preset.callback(preset.value);
                return find("instruction").value;
            }"""
        )
    assert text == INSTRUCTIONS["relight (English)"]
