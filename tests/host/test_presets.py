"""A preset, masks and preserved instructions, through the real server."""

import json

import yaml
from PIL import Image


def run_of(server, name):
    folder = server.base / "output" / "kontext_runs" / name
    config = yaml.safe_load((folder / "run.yaml").read_text("utf-8"))["config"]
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]
    return config, log


def preset(**inputs):
    return {"class_type": "KontextTrainingPreset", "inputs": inputs}


def test_a_preset_reaches_the_train_node_on_one_wire(server, run, train, load_pairs):
    """What is 0 there comes from the preset, what is not stays."""
    zero = dict(rank=0, learning_rate=0.0, save_every=0)
    graph = train("by preset", steps=4, **zero)
    graph["preset"] = preset(
        preset="quick look", resolution=64, pairs=["pairs", 0], more="preview_steps: 0"
    )
    graph["train"]["inputs"]["settings"] = ["preset", 0]
    del graph["quick"]

    shown = run(graph)["outputs"]["preset"]["text"][0]
    assert "3 to train on" in shown and "change what you like" in shown
    config, log = run_of(server, "by preset")
    assert (config["rank"], config["learning_rate"], config["save_every"]) == (16, 2e-4, 100)
    assert (config["resolution"], config["reference_resolution"]) == (64, 32)
    assert len(log) == 4

    graph = train("own rank", steps=2, **{**zero, "rank": 2})
    graph |= {"preset": preset(preset="relight", resolution=64, more="preview_steps: 0")}
    graph["train"]["inputs"]["settings"] = ["preset", 0]
    del graph["quick"]
    run(graph)
    config, _ = run_of(server, "own rank")
    assert (config["rank"], config["save_every"], config["timesteps"]) == (2, 500, "structure")


def test_without_settings_0_is_the_default(server, run, train):
    graph = train("plain", steps=1, rank=0, learning_rate=0.0, save_every=0)
    del graph["quick"], graph["train"]["inputs"]["settings"]
    run(graph)
    config, _ = run_of(server, "plain")
    assert (config["rank"], config["learning_rate"], config["save_every"]) == (16, 1e-4, 250)


def test_masks_several_resolutions_and_preserved_instructions(server, run, train, pair_folder):
    for path in pair_folder.glob("*/*.png"):
        Image.open(path).resize((128, 128)).save(path)
    (pair_folder / "masks").mkdir()
    Image.new("L", (64, 64), 255).save(pair_folder / "masks" / "ring.png")
    graph = train("masked")
    graph["quick"]["inputs"] |= {
        "resolution": "64, 96", "preserve": 1.0, "more": "preserve_every: 2\npreview_steps: 0",
        "preserve_prompts": "Keep it.\nMake it rain.",
    }  # fmt: skip
    run(graph)
    config, log = run_of(server, "masked")
    assert config["resolution"] == "64, 96"
    assert [entry["step"] for entry in log if "drift" in entry] == [1, 3, 5]
    assert log[0]["drift"] == 0 and log[-2]["drift"] > 0
