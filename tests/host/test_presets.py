"""A preset, masks and preserved instructions, through the real server."""

import json

import yaml
from PIL import Image


def run_of(server, name):
    folder = server.base / "output" / "kontext_runs" / name
    config = yaml.safe_load((folder / "run.yaml").read_text("utf-8"))["config"]
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]
    return config, log


def test_a_preset_fills_in_the_train_node(server, run, train, load_pairs):
    graph = train("by preset")
    graph["preset"] = {
        "class_type": "KontextTrainingPreset",
        "inputs": {"preset": "quick look", "resolution": 64, "pairs": ["pairs", 0]},
    }
    filled = ("settings", "steps", "rank", "learning_rate", "save_every")
    links = {name: ["preset", place] for place, name in enumerate(filled)}
    graph["train"]["inputs"] |= {**links, "steps": 4}
    del graph["quick"]

    shown = run(graph)["outputs"]["preset"]["text"][0]
    assert "3 to train on" in shown and "change what you like" in shown
    config, log = run_of(server, "by preset")
    assert (config["rank"], config["learning_rate"], config["save_every"]) == (16, 2e-4, 100)
    assert (config["resolution"], config["reference_resolution"]) == (64, 32)
    assert len(log) == 4


def test_masks_resolutions_and_preserved_instructions(server, run, train, pair_folder):
    for path in pair_folder.glob("*/*.png"):
        Image.open(path).resize((128, 128)).save(path)
    (pair_folder / "masks").mkdir()
    Image.new("L", (64, 64), 255).save(pair_folder / "masks" / "ring.png")
    graph = train("masked")
    graph["quick"]["inputs"] |= {
        "resolutions": "64, 96", "preserve": 1.0, "preserve_every": 2,
        "preserve_prompts": "Keep it.\nMake it rain.",
    }  # fmt: skip
    run(graph)
    config, log = run_of(server, "masked")
    assert config["resolutions"] == "64, 96"
    assert [entry["step"] for entry in log if "drift" in entry] == [1, 3, 5]
    assert log[0]["drift"] == 0 and log[-2]["drift"] > 0
