"""Every shipped graph opens in the real front end and runs through the real server."""

import json
from pathlib import Path

import pytest

import api_form
import browser

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
FIRST = "train_kontext_lora"
# Those that train the LoRAs others apply go first.
TRAINING = (FIRST, "train_style_lora")
# Two steps on 64 pixels: these models are miniatures.
BRIEF = {
    "KontextTrainingPreset": {"resolution": 64},
    "KontextTrainLora": {"steps": 2, "save_every": 2},
    "KontextCompareCheckpoints": {"sampling_steps": 1, "most_pictures": 1},
}
GRAPHS = sorted(WORKFLOWS.glob("*.json"), key=lambda path: (path.stem not in TRAINING, path))

# Smaller numbers for the run through the server: graph, node type, input.
FAST = {
    "train_kontext_lora": {
        "KontextTrainLora": {"steps": 8, "save_every": 4},
        "KontextSaveCheckpoint": {"name": "old_print_000600"},  # as after all of its steps
        "KontextCompareCheckpoints": {"sampling_steps": 2},
    },
    "train_and_keep": {
        "KontextTrainLora": {"steps": 8, "save_every": 4},
        "KontextPickCheckpoint": {"choice": "last"},  # none is the best after so few steps
    },
    "train_style_lora": {
        "KontextTrainLora": {"steps": 8, "save_every": 4},
        "KontextSaveCheckpoint": {"name": "two_inks_000300"},
    },
    "train_flux2_klein": BRIEF,
    "train_qwen_image_edit": BRIEF,
    "train_pictures": BRIEF,
    "compare_checkpoints": {"KontextCompareCheckpoints": {"sampling_steps": 2, "strengths": "1"}},
    "choose_checkpoint": {"KontextScoreCheckpoints": {"pictures": 0, "strengths": "1"}},
}

each_graph = pytest.mark.parametrize("path", GRAPHS, ids=lambda path: path.stem)


def saved(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


@each_graph
def test_runs_through_the_server(path, server):
    prompt = api_form.api_form(saved(path), server.get("/object_info"))
    api_form.substitute(prompt, FAST.get(path.stem, {}))
    assert server.run(prompt)["status"]["status_str"] == "success"


def test_all_open_in_the_front_end(set_up):
    nodes = set_up.server.get("/object_info")
    with browser.front_end(set_up.server.url) as page:
        bare = set(page.errors)
        for path in GRAPHS:
            page.open_graph(saved(path))
            assert page.red_nodes() == [], path.stem
            assert set(page.errors) <= bare, path.stem
            theirs = page.api_form()
            for node in theirs.values():
                del node["_meta"]  # titles, for the page only
            assert api_form.api_form(saved(path), nodes) == theirs, path.stem


@each_graph
def test_has_a_picture_for_the_template_browser(path):
    from PIL import Image

    width, height = Image.open(path.with_suffix(".jpg")).size
    assert width >= 600 and height >= 300
