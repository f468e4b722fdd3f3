"""Graphs for the real server, small enough for seconds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

import api_form
from api_form import Graph


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


@pytest.fixture
def run(server):
    """A function: run a graph, every widget that it leaves out at its default."""
    nodes = server.get("/object_info")

    def run_graph(graph: Graph, watch=lambda event: None) -> dict[str, Any]:
        return server.run(api_form.with_defaults(graph, nodes), watch)

    return run_graph


@pytest.fixture
def pair_folder(tmp_path: Path) -> Path:
    """Three pairs of 64-pixel pictures, before/ and after/, the after inverted."""
    random = np.random.default_rng(0)
    for stem in ("ring", "brooch", "耳环"):
        before = Image.fromarray(random.integers(0, 255, (8, 8, 3), np.uint8)).resize((64, 64))
        for side, image in (("before", before), ("after", ImageOps.invert(before))):
            (tmp_path / side).mkdir(exist_ok=True)
            image.save(tmp_path / side / f"{stem}.png")
    return tmp_path


@pytest.fixture
def load_pairs(pair_folder: Path) -> dict[str, Any]:
    return node(
        "KontextLoadPairs",
        control_folder=str(pair_folder / "before"),
        target_folder=str(pair_folder / "after"),
        default_caption="invert the colours, please",
        holdout=0.0,
    )


@pytest.fixture
def train(load_pairs: dict[str, Any]):
    """A function: the graph that trains under `name`, with the train node's inputs changed."""

    def graph(name: str, **changes: Any) -> Graph:
        settings = dict(steps=6, rank=4, learning_rate=1e-3, save_every=3, keep=4, seed=1)
        return {
            "model": node("KontextDemoModel"),
            "pairs": load_pairs,
            "quick": node("KontextTrainingSettings", more="preview_steps: 0"),
            "train": node(
                "KontextTrainLora",
                model=["model", 0],
                clip=["model", 1],
                vae=["model", 2],
                pairs=["pairs", 0],
                name=name,
                settings=["quick", 0],
                **{**settings, **changes},
            ),
        }

    return graph


@pytest.fixture
def sample() -> Graph:
    """Stock nodes only, behind the demo loader: four steps, one picture out."""
    return {
        "model": node("KontextDemoModel"),
        "image": node("EmptyImage", width=64, height=64, batch_size=1, color=0x3366AA),
        "latent": node("VAEEncode", pixels=["image", 0], vae=["model", 2]),
        "text": node("CLIPTextEncode", text="invert", clip=["model", 1]),
        "reference": node("ReferenceLatent", conditioning=["text", 0], latent=["latent", 0]),
        "guidance": node("FluxGuidance", conditioning=["reference", 0], guidance=2.5),
        "nothing": node("ConditioningZeroOut", conditioning=["text", 0]),
        "ksampler": node(
            "KSampler",
            model=["model", 0],
            seed=5,
            steps=4,
            cfg=1.0,
            sampler_name="euler",
            scheduler="simple",
            positive=["guidance", 0],
            negative=["nothing", 0],
            latent_image=["latent", 0],
            denoise=1.0,
        ),
        "decoded": node("VAEDecode", samples=["ksampler", 0], vae=["model", 2]),
        "saved": node("SaveImage", images=["decoded", 0], filename_prefix="sample"),
    }
