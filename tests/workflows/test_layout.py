"""The graphs can be read: what a user sees before the first click."""

import re

from .test_workflows import each_graph, saved


@each_graph
def test_a_graph_fits_the_screen(path):
    """Wider ones open without their texts at 1366 × 768: ComfyUI leaves these out below 57 %."""
    boxes = [group["bounding"] for group in saved(path)["groups"]]
    left, top = (min(box[side] for box in boxes) for side in (0, 1))
    right, bottom = (max(box[side] + box[side + 2] for box in boxes) for side in (0, 1))
    assert right - left <= 1800 and bottom - top <= 1000


@each_graph
def test_its_groups_are_numbered_once_each(path):
    titles = [group["title"] for group in saved(path)["groups"]]
    numbers = [int(found[1]) for title in titles if (found := re.match(r"(\d+) ·", title))]
    assert numbers == list(range(1, len(titles)))


@each_graph
def test_the_check_list_comes_first_in_both_languages(path):
    first = min(saved(path)["nodes"], key=lambda node: (node["pos"][0], node["pos"][1]))
    assert first["type"] == "MarkdownNote"
    english, chinese = re.split(r"\n\n(?=#)", first["widgets_values"][0])
    steps = [re.findall(r"^(\d)\. ", text, re.M) for text in (english, chinese)]
    assert steps[0] == steps[1] == [f"{n + 1}" for n in range(len(steps[0]))] and steps[0]


@each_graph
def test_wires_between_rows_run_in_lanes(path):
    """A wire straight from one row to another crosses the titles and nodes between them."""
    graph = saved(path)
    tops = {group["bounding"][1] for group in graph["groups"]}
    row = {n["id"]: max(top for top in tops if top < n["pos"][1]) for n in graph["nodes"]}
    between = {link[0] for link in graph["links"] if row[link[1]] != row[link[3]]}
    lanes = {extension["id"] for extension in graph["extra"].get("linkExtensions", [])}
    assert lanes == between
    for spot in graph["extra"].get("reroutes", []):
        across, down = spot["pos"]
        inside = [
            group["title"]
            for group in graph["groups"]
            for left, top, width, height in [group["bounding"]]
            if left < across < left + width and top < down < top + height
        ]
        assert not inside
