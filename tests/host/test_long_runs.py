"""Samples, pins and rescue through the real server."""

import json
import re
import shutil

import pytest
from PIL import Image

from driver import PromptError

from .conftest import node

PROMPTS = "invert the colours, please\n把颜色反转"


def sampled(graph, **inputs):
    """The training graph with samples of a red picture beside it."""
    graph["train"]["inputs"]["samples"] = ["samples", 0]
    return {
        **graph,
        "red": node("EmptyImage", width=96, height=64, batch_size=1, color=0xFF0000),
        "samples": node("KontextTrainingSamples", images=["red", 0], sampling_steps=2, **inputs),
    }


def test_samples_are_shown_and_kept_with_prompt_and_seed(server, run, train):
    previews = []

    def watch(event):
        if event.kind.startswith("preview"):
            previews.append(event)

    run(sampled(train("sampled"), prompts=PROMPTS, every=2, seed=5), watch)
    folder = server.base / "output/kontext_runs/sampled/samples"
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"step_{step:06}{of}.png" for step in (2, 4, 6) for of in ("", "_2")]
    with Image.open(folder / "step_000006_2.png") as picture:
        facts = json.loads(picture.info["kontext_sample"])
        assert picture.size == (192, 64) and picture.getpixel((10, 10)) == (255, 0, 0)
    assert facts == {"step": 6, "prompt": "把颜色反转", "seed": 5}
    assert len(previews) >= 3


def test_a_kept_and_a_pinned_checkpoint_outlive_the_others(server, run, train):
    first = train("pinned", steps=4, save_every=1, keep=3)
    run({**first, "kept": node("KontextPickCheckpoint", run=["train", 0], choice="2")})
    run({"open": node("KontextOpenRun", name="pinned", pin="3"),
         "saved": node("KontextSaveCheckpoint", run=["open", 0], step=4, name="copy")})  # fmt: skip
    longer = train("pinned", steps=8, save_every=1, keep=2)
    longer["quick"]["inputs"]["schedule"] = "constant"
    run(longer)
    names = sorted(path.stem for path in (server.base / "output/loras/pinned").iterdir())
    assert names == [f"pinned_{step:06}" for step in (2, 3, 7, 8)]


def test_a_lost_output_folder_is_told_and_the_run_continues(server, run, train):
    """The folder of LoRAs is replaced by a file in the middle: root may write anywhere else."""
    folder = server.base / "output/loras/lost"

    def lose(event):
        bar = event.kind == "progress_state" and event.content["nodes"].get("train")
        if bar and bar["state"] == "running" and bar["value"] >= 2 and folder.is_dir():
            shutil.rmtree(folder)
            folder.write_text("in the way")

    with pytest.raises(PromptError, match=r"up to step \d+ is safe in .*kontext_rescued") as told:
        run(train("lost", steps=100, save_every=50), lose)
    step = int(re.search(r"up to step (\d+)", str(told.value))[1])
    assert [*(server.base / "user/kontext_rescued").glob("*/loras/lost/*.safetensors")]
    folder.unlink()
    run(train("lost", steps=100, save_every=50))
    assert f"lost_{step:06}.safetensors" in {path.name for path in folder.iterdir()}
    log = server.base / "output/kontext_runs/lost/log.jsonl"
    steps = [json.loads(line)["step"] for line in log.read_text("utf-8").splitlines()]
    assert steps == list(range(1, 101))
    assert not [*(server.base / "user/kontext_rescued").iterdir()]
