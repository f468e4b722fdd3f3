"""Choosing a checkpoint in the real ComfyUI: train, score, keep, compare, use."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

MODEL = {"model": ["model", 0], "clip": ["model", 1], "vae": ["model", 2]}


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


@pytest.fixture(scope="module")
def run(server):
    """A function: run a graph, every widget that it leaves out at its default."""
    nodes = server.get("/object_info")

    def run_graph(graph, watch=lambda event: None):
        full = {}
        for key, each in graph.items():
            widgets = nodes[each["class_type"]]["input"].get("required", {})
            defaults = {
                name: spec[1]["default"]
                for name, spec in widgets.items()
                if len(spec) > 1 and "default" in spec[1]
            }
            full[key] = {**each, "inputs": defaults | each["inputs"]}
        return server.run(full, watch)

    return run_graph


@pytest.fixture(scope="module")
def graph(run, tmp_path_factory):
    """A run of 6 steps with 3 checkpoints on 8 pairs, 4 of them held out."""
    folder, random = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    for number in range(8):
        before = Image.fromarray(random.integers(0, 255, (4, 4, 3), np.uint8)).resize((64, 64))
        for side, image in (("before", before), ("after", ImageOps.invert(before))):
            (folder / side).mkdir(exist_ok=True)
            image.save(folder / side / f"戒指 {number}.png")
    graph = {
        "model": node("KontextDemoModel"),
        "pairs": node(
            "KontextLoadPairs",
            control_folder=str(folder / "before"),
            target_folder=str(folder / "after"),
            default_caption="invert the colours",
            holdout=4,
        ),
        "train": node(
            "KontextTrainLora",
            **MODEL,
            pairs=["pairs", 0],
            name="choosing",
            steps=6,
            rank=4,
            learning_rate=1e-3,
            save_every=2,
            keep=0,
            seed=1,
        ),
    }
    run(graph)
    return graph


def compare(**inputs):
    given = dict(run=["train", 0], pairs=["pairs", 0], prompt="", strengths="0.5, 1")
    given |= dict(seeds="1", sampling_steps="2")
    return node("KontextCompareCheckpoints", **MODEL, **{**given, **inputs})


def output_folder(server) -> Path:
    return Path(server.base) / "output"


def pictures(server):
    found = (output_folder(server) / "kontext_runs/choosing/samples").glob("*-*.png")
    return {path.name: path.stat().st_mtime_ns for path in found}


def grid(server, entry) -> Image.Image:
    (saved,) = entry["outputs"]["compare"]["images"]
    assert saved["type"] == "output"
    return Image.open(output_folder(server) / saved["subfolder"] / saved["filename"])


def test_cancel_keeps_the_cells_and_the_next_run_makes_the_rest(server, run, graph):
    graph = {**graph, "compare": compare()}
    run(graph, lambda event: len(pictures(server)) >= 3 and server.interrupt())
    kept = pictures(server)
    assert 3 <= len(kept) < 28
    entry = run(graph)
    (made,) = entry["outputs"]["compare"]["kontext_compare"]  # what the viewer's button opens
    found = server.get(f"/kontext/compare/{made['run']}/{made['comparison']}/manifest")
    assert [len(row) for row in found["shown"]] == [1 + 1 + 3 * 2 + 1] * 4
    assert all(column["cost"] for column in found["columns"][1:-1])
    shown = grid(server, entry)
    every = pictures(server)
    assert len(every) == 4 * (1 + 3 * 2)
    assert kept.items() <= every.items()
    assert shown.width > 2000 and shown.height > 1000


def test_model_clip_vae_and_run_are_enough(server, run, graph):
    """The run knows its pairs and captions: the same pictures, none of them made again."""
    run({**graph, "compare": compare(checkpoints="last", strengths="1")})
    before = pictures(server)
    alone = compare(checkpoints="last", strengths="1")
    for known in ("pairs", "prompt"):
        del alone["inputs"][known]
    shown = grid(server, run({**graph, "compare": alone}))
    assert pictures(server) == before and shown.width > 1000

    bare = node("KontextLoadPairs", **{**graph["pairs"]["inputs"], "default_caption": ""})
    alone["inputs"]["pairs"] = ["bare", 0]
    run({**graph, "bare": bare, "compare": alone})
    assert pictures(server) == before  # the run's instruction where a pair has no caption
    del alone["inputs"]["pairs"]

    wide = node("EmptyImage", width=96, height=64, batch_size=1, color=0x3366AA)
    alone["inputs"]["images"] = ["wide", 0]
    run({**graph, "wide": wide, "compare": alone})
    (made, _) = pictures(server).keys() - before.keys()
    with Image.open(output_folder(server) / "kontext_runs/choosing/samples" / made) as cell:
        assert json.loads(cell.text["kontext"])["prompt"] == "invert the colours"


def test_cells_open_as_the_graph_that_made_them(server, run, graph):
    run({**graph, "compare": compare(checkpoints="last", strengths="1")})
    name = next(name for name in pictures(server) if name.startswith("step-6-x-1"))
    with Image.open(output_folder(server) / "kontext_runs/choosing/samples" / name) as cell:
        settings, prompt = json.loads(cell.text["kontext"]), json.loads(cell.text["prompt"])
    assert settings["prompt"] == "invert the colours" and settings["steps"] == 2
    assert prompt["compare"]["class_type"] == "KontextCompareCheckpoints"


def test_any_pictures_and_any_loras_can_be_compared(server, run, graph):
    shared = {
        "model": graph["model"],
        "wide": node("EmptyImage", width=96, height=64, batch_size=2, color=0x3366AA),
        "compare": compare(
            images=["wide", 0], loras="choosing/*4.safetensors", prompt="make it gold\n让它变成金色"
        ),
    }
    for absent in ("run", "pairs"):
        del shared["compare"]["inputs"][absent]
    assert grid(server, run(shared)).width > 1000


@pytest.mark.parametrize(
    "inputs, message",
    [
        ({"strengths": "0.5-1.0"}, "needs a step or a count"),
        ({"checkpoints": "5"}, "Saved steps: 2, 4, 6"),
        ({"loras": "missing"}, "No LoRA is called 'missing'"),
    ],
)
def test_wrong_inputs_are_named_before_the_first_picture(server, run, graph, inputs, message):
    before = pictures(server)
    with pytest.raises(Exception, match=message):
        run({**graph, "compare": compare(**inputs)})
    assert pictures(server) == before


def test_the_scored_checkpoint_is_kept_and_the_stock_loader_takes_it(server, run, graph):
    chain = {
        **graph,
        "score": node(
            "KontextScoreCheckpoints",
            **MODEL,
            run=["train", 0],
            pairs=["pairs", 0],
            strengths="0.5, 1",
            pictures=4,
            sampling_steps=2,
        ),
        "table": node("PreviewAny", source=["score", 0]),
        "verdicts": node("PreviewAny", source=["score", 2]),
    }
    outputs = run(chain)["outputs"]
    shown = outputs["table"]["text"][0]
    assert "step 2" in shown and "held-out gain" in shown
    reasons = outputs["verdicts"]["text"][0].splitlines()[-3:]
    assert all("Its pictures are" in reason for reason in reasons)  # they have the last word
    folder = output_folder(server) / "kontext_runs/choosing/scores"
    losses = (folder / "losses.jsonl").read_text(encoding="utf-8")
    assert json.loads((folder / "scores.json").read_text(encoding="utf-8"))["holdout_pairs"] == 4

    # whatever the verdict on six steps is, a step can be kept, and used
    used = {
        **graph,
        "keep": node("KontextPickCheckpoint", run=["train", 0], choice="4", name="亮 rings"),
        "loader": node(
            "LoraLoaderModelOnly",
            model=["model", 0],
            lora_name=["keep", 0],
            strength_model=["keep", 1],
        ),
        "text": node("CLIPTextEncode", text="invert", clip=["model", 1]),
        "latent": node("EmptySD3LatentImage", width=64, height=64, batch_size=1),
        "sampled": node(
            "KSampler",
            model=["loader", 0],
            positive=["text", 0],
            negative=["text", 0],
            latent_image=["latent", 0],
            seed=1,
            steps=1,
            cfg=1.0,
            sampler_name="euler",
            scheduler="simple",
            denoise=1.0,
        ),
        "decoded": node("VAEDecode", samples=["sampled", 0], vae=["model", 2]),
        "shown": node("PreviewImage", images=["decoded", 0]),
    }
    assert run(used)["outputs"]["shown"]["images"]
    assert "亮 rings.safetensors" in server.loras()
    # scoring again reads what is known, and takes the pairs from the run
    chain["score"]["inputs"]["checkpoints"] = "2-6"
    del chain["score"]["inputs"]["pairs"]
    run(chain)
    assert (folder / "losses.jsonl").read_text(encoding="utf-8") == losses
