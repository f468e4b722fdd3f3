"""The training graph can be read: what a user sees before the first click."""

import re

from .test_workflows import FIRST, GRAPHS, each_graph, saved

TRAIN = saved(next(path for path in GRAPHS if path.stem == FIRST))


def test_the_training_graph_fits_the_screen():
    """At most 1,900 × 1,000 of the canvas: read at three quarters on a 1920 × 1080 screen."""
    boxes = [group["bounding"] for group in TRAIN["groups"]]
    left, top = (min(box[side] for box in boxes) for side in (0, 1))
    right, bottom = (max(box[side] + box[side + 2] for box in boxes) for side in (0, 1))
    assert right - left <= 1900 and bottom - top <= 1000


def test_its_groups_are_numbered_once_each():
    numbers = [re.match(r"(\d+) ·", group["title"]) for group in TRAIN["groups"]]
    assert [int(number[1]) for number in numbers if number] == [1, 2, 3, 4, 5, 6, 7]


def test_the_check_list_comes_first():
    first = min(TRAIN["nodes"], key=lambda node: (node["pos"][0], node["pos"][1]))
    assert first["type"] == "MarkdownNote"


@each_graph
def test_no_graph_overwrites_a_lora(path):
    for node in saved(path)["nodes"]:
        if node["type"] in ("KontextSaveCheckpoint", "KontextPickCheckpoint"):
            assert True not in node["widgets_values"]
