import json
import re
from dataclasses import fields
from html.parser import HTMLParser
from itertools import groupby

import pytest
import torch
from kontext import language
from kontext.dataset.pair import Pair, PairedDataset
from kontext.evaluation.progress.curves import Course
from kontext.evaluation.progress.follow import Table
from kontext.evaluation.progress.run_page import settings, write_page
from kontext.trainer.config import TrainConfig
from kontext.trainer.runs.identity import Identity
from kontext.trainer.runs.run import Run
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file

from ..runs import STEPS, known_run

EVIL = "<script>alert('1')</script> & \"“环”\" <img src=http://evil.example/x>"


class Reader(HTMLParser):
    """Tags, what they would load, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.loaded: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        loads = ("src", "href", "xlink:href", "srcset", "data", "action")
        self.loaded += [value for name, value in attributes if name in loads]

    handle_startendtag = handle_starttag

    def handle_data(self, text):
        self.text += text


@pytest.fixture
def page(tmp_path) -> tuple[Run, Reader]:
    for name in ("before.png", "after.png"):
        Image.new("RGB", (96, 64), "teal").save(tmp_path / name)
    before, after = tmp_path / "before.png", tmp_path / "after.png"
    pairs = PairedDataset(
        (Pair("a", (before,), after, EVIL), Pair("b & <b>", (before,), after, "", "holdout"))
    )
    config = TrainConfig(steps=STEPS, alpha=16.0, rank=64, targets="<i>")
    run = Run.create("环 & co's", tmp_path / "out", Identity(config, "base", "pairs"))
    for step in (750, 1500):
        layer = "lora_unet_single_blocks_0_linear1"
        lora = {
            f"{layer}.lora_down.weight": torch.zeros(1, 290_000),
            f"{layer}.lora_up.weight": torch.zeros(10_000, 1),
            f"{layer}.alpha": torch.ones(()),
        }
        save_file(lora, run.lora_folder / f"{run.name}_{step:06d}.safetensors")
        (run.folder / "samples").mkdir(exist_ok=True)
        words = PngInfo()
        words.add_text("kontext_sample", json.dumps({"prompt": f"sampled {EVIL}"}))
        picture = run.folder / "samples" / f"step_{step:06d}.png"
        Image.new("RGB", (300, 100), "olive").save(picture, pnginfo=words)
        Image.new("RGB", (64, 64)).save(run.folder / "samples" / f"step-{step}-a-cell.png")
    log = known_run("memorising")
    log[20]["note"] = f"half the learning rate {EVIL}"
    write_page(run, Course(log), pairs)
    return run, Reader((run.folder / "run.html").read_text(encoding="utf-8"))


def test_everything_is_on_the_page(page):
    run, read = page
    for words in (
        "Memorising: since step", "training loss", "learning rate", "held-out", "step 750",
        f"{run.name}_000750.safetensors", "1.2", "lowest", "rank 64", "96 × 64 (2)", "b & <b>",
        EVIL, f"sampled {EVIL}", f"step 21: half the learning rate {EVIL}", "targets <i>",
    ):  # fmt: skip
        assert words in re.sub(r"\s+", " ", read.text), words
    assert "svg" in read.tags


def test_the_page_loads_nothing_and_runs_nothing(page):
    _, read = page
    pictures = [each for each in read.loaded if each.startswith("data:image/jpeg;base64,")]
    rest = [each for each in read.loaded if each not in pictures]
    assert len(pictures) == 2
    assert all(each.startswith("#") for each in rest), rest  # parts of the drawing
    assert not read.tags & {"script", "link", "iframe", "i", "b>"}


def test_a_run_without_steps_or_samples_has_a_page(tmp_path):
    config = TrainConfig(steps=10, alpha=16.0)
    run = Run.create("new", tmp_path, Identity(config, "base", "pairs"))
    write_page(run, Course())
    Table(run, Course()).write()
    assert "0 of 10 steps done" in (run.folder / "run.html").read_text(encoding="utf-8")
    assert (run.folder / "log.csv").read_text(encoding="utf-8").startswith("step,loss,")


def test_settings_come_by_topic_under_the_names_of_the_interface(monkeypatch):
    english = settings(TrainConfig(rank=8))
    topics = [topic for topic, _ in groupby(row[3] for row in english)]
    assert len(topics) == len(set(topics)) and all(topics)
    assert {row[0] for row in english} == {field.name for field in fields(TrainConfig)}
    assert [row[0] for row in english if row[2]] == ["rank"]
    monkeypatch.setattr(language, "_source", lambda: "zh")
    chinese = {row[0] for row in settings(TrainConfig())}
    assert {"秩（rank）", "学习率", "分辨率"} <= chinese and "learning_rate" not in chinese
