"""Caption Pairs against calling transformers directly: what the node adds to the model's own time.

    python scripts/benchmark/captions.py MODEL_FOLDER [--pictures 24] [--side 1024] [--tokens 32]

Both sides open the same pictures and ask the same model in the same precision, alternating so that
a busy machine disturbs both alike. The node side also writes a .txt per picture and its journal.
`COMFYUI_PATH` names ComfyUI's folder.
"""

# ruff: noqa: E402, F401, I001  the imports below need ComfyUI to have been found first

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.argv, arguments = sys.argv[:1], sys.argv[1:]

import tests.conftest  # imports ComfyUI and the pack as `kontext`
import torch
from kontext.captioning.describe import Side
from kontext.captioning.image_text import ImageText
from kontext.captioning.journal import Journal
from kontext.captioning.recipe import Existing, Recipe
from kontext.captioning.run import Options, caption_pairs
from kontext.captioning.transformers_captioner import Weights
from kontext.dataset.pair import Pair, PairedDataset

PROMPT = "Describe this image."


def make_pairs(folder: Path, count: int, side: int) -> PairedDataset:
    """Pictures of smooth noise, as large as a user's."""
    random = np.random.default_rng(0)
    pairs = []
    for number in range(count):
        small = Image.fromarray(random.integers(0, 255, (8, 8, 3), np.uint8))
        path = folder / f"{number:03}.png"
        small.resize((side, side), Image.Resampling.BICUBIC).save(path)
        pairs.append(Pair(path.stem, (), path, ""))
    return PairedDataset(tuple(pairs))


def direct(model: Any, processor: Any, pairs: PairedDataset, tokens: int) -> None:
    """The few lines that a script would have."""
    for pair in pairs:
        with Image.open(pair.target) as picture:
            content = [{"type": "image", "image": picture.convert("RGB")}]
        content.append({"type": "text", "text": PROMPT})
        inputs = processor.apply_chat_template(
            [[{"role": "user", "content": content}]],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        ).to(model.device, model.dtype)
        with torch.inference_mode():
            output = model.generate(
                **inputs, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False
            )
        processor.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def through_the_node(captioner: ImageText, pairs: PairedDataset, folder: Path) -> None:
    options = Options(side=Side.TARGET, save=True)
    recipe = Recipe(instruction="Polish it.", existing=Existing.REPLACE)
    journal = Journal(folder / f"{time.monotonic_ns()}.jsonl")
    caption_pairs(pairs, recipe, captioner, options, journal, lambda *_: None)


def seconds(function: Any, *arguments: Any) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="folder of a chat model, such as Qwen3-VL")
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    generation = {"max_new_tokens": options.tokens, "min_new_tokens": options.tokens}
    captioner = ImageText(
        Weights(options.model, "auto"), keep=True, generation=generation, prompt=PROMPT
    )
    with tempfile.TemporaryDirectory() as place:
        pairs = make_pairs(Path(place), options.pictures, options.side)
        through_the_node(captioner, pairs, Path(place))  # reads the weights, warms up
        loaded = captioner._load()
        loaded.place.bring()
        times: dict[str, list[float]] = {"direct": [], "node": []}
        for _ in range(options.rounds):
            times["direct"].append(
                seconds(direct, loaded.model, loaded.processor, pairs, options.tokens)
            )
            times["node"].append(seconds(through_the_node, captioner, pairs, Path(place)))
    direct_time, node_time = median(times["direct"]), median(times["node"])
    each = (node_time - direct_time) / options.pictures
    print(f"{options.pictures} pictures of {options.side} px, {options.tokens} tokens each, median")
    print(f"transformers directly  {direct_time:8.3f} s")
    print(f"Caption Pairs          {node_time:8.3f} s")
    print(f"added                  {node_time / direct_time - 1:8.1%}  ({each * 1000:.1f} ms each)")


if __name__ == "__main__":
    main()
