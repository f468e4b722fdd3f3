"""Targets Without a Control: batch by batch over a folder, skipping what exists."""

from pathlib import Path

import folder_paths
import pytest
import torch
from comfy_execution.graph_utils import ExecutionBlocker
from kontext.nodes.prepare_pairs import SavePair
from kontext.nodes.unpaired import UnpairedTargets
from PIL import Image


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(tmp_path))
    (tmp_path / "after").mkdir()
    for number in range(5):
        Image.new("RGB", (8, 8), (number * 40, 0, 0)).save(tmp_path / "after" / f"{number}.png")
    return tmp_path


def next_ones(at_a_time: int = 2) -> tuple[list, list, str]:
    return UnpairedTargets.execute("after", "made", at_a_time).args


def test_every_picture_is_handed_out_once():
    seen = []
    for _ in range(3):
        targets, stems, _ = next_ones()
        for picture, stem in zip(targets, stems, strict=True):
            assert picture[0, 0, 0, 0].item() == pytest.approx(int(stem) * 40 / 255)
            SavePair.execute(picture * 0.5, picture, "line art", "made", stem, False)
        seen += stems
    assert seen == ["0", "1", "2", "3", "4"]


def test_nothing_left_stops_what_follows():
    for number in range(5):
        SavePair.execute(torch.rand(1, 8, 8, 3), torch.rand(1, 8, 8, 3), "", "made", str(number), 0)
    targets, stems, report = next_ones()
    assert isinstance(targets[0], ExecutionBlocker) and isinstance(stems[0], ExecutionBlocker)
    assert report == "5 of 5 done; 0 in this run."


def test_the_graph_runs_again_while_something_is_left():
    def fingerprint() -> str:
        return UnpairedTargets.fingerprint_inputs("after", "made", 2)

    first = fingerprint()
    assert fingerprint() == first
    SavePair.execute(torch.rand(1, 8, 8, 3), torch.rand(1, 8, 8, 3), "", "made", "0", False)
    assert fingerprint() != first
