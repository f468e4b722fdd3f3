"""Settings tried in a graph, and the same tries from a terminal."""

import json
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image, ImageOps

from host import PACK_FOLDER

from .conftest import node

RATES = "2e-4, 3e-3, 1e-2"  # none is the rate of a run that is given no settings


@pytest.fixture
def pair_folder(tmp_path):
    """Seven pairs, of which three can be held out."""
    random = np.random.default_rng(0)
    for number in range(7):
        before = Image.fromarray(random.integers(0, 255, (8, 8, 3), np.uint8)).resize((64, 64))
        for side, image in (("before", before), ("after", ImageOps.invert(before))):
            (tmp_path / side).mkdir(exist_ok=True)
            image.save(tmp_path / side / f"{number}.png")
    return tmp_path


def test_the_best_settings_reach_the_train_node_and_the_terminal(server, run, train):
    """The terminal finds the graph's tries done, and says what the node has said."""
    graph = train("long", steps=4, rank=0, learning_rate=0, seed=0)
    graph["pairs"]["inputs"]["holdout"] = 3
    names = ("model", "clip", "vae", "pairs")
    wires = {name: graph["train"]["inputs"][name] for name in names}
    axes = {"axes": f"learning_rate： {RATES}", "steps": 4}
    graph["try"] = node("KontextTrySettings", name="试", settings=["quick", 0], **axes, **wires)
    graph["train"]["inputs"]["settings"] = ["try", 0]
    told = []
    entry = run(graph, told.append)
    assert entry["status"]["status_str"] == "success", entry["status"]
    assert entry["outputs"]["try"]["images"]
    texts = [event.content["text"] for event in told if event.kind == "text"]
    trying = [text for text in texts if "learning_rate 0.003: to step 2" in text]
    assert trying and all("3 tries of at most 4 steps" in text for text in trying)

    output = server.base / "output"
    found = json.loads((output / "kontext_tries" / "试" / "tries.json").read_text("utf-8"))
    assert len(found["tries"]) == 3
    file = output / "kontext_runs" / "long" / "run.yaml"
    config = yaml.safe_load(file.read_text("utf-8"))["config"]
    assert float(config["learning_rate"]) == found["best"]["learning_rate"]

    pack = server.base / "custom_nodes" / PACK_FOLDER
    done = subprocess.run(
        [sys.executable, str(pack), "try", str(file), "--axis", f"learning_rate={RATES}",
         "--steps", "4", "--set", "name=试", "--json", "--cpu",
         "--comfyui", str(server.host.comfyui), "--base-directory", str(server.base)],
        cwd=server.base, capture_output=True, text=True, encoding="utf-8", timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout.splitlines()[-1])
    assert {name: again[name] for name in found} == found
