"""Which side a wire carries, told from the graph."""

import pytest
from kontext.dataset.finding import ERROR, WARNING
from kontext.dataset.wires import swapped_wires


def node(kind, title="", **inputs):
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": title or kind}}


def judged(control, target, **nodes):
    """Severities, with the two wires as told and then exchanged."""
    ways = {"control": control, "target": target}, {"control": target, "target": control}
    graphs = [{**nodes, "pair": node("KontextSavePair", stem="a", **wires)} for wires in ways]
    return [[each.severity for each in swapped_wires(graph, "pair")] for graph in graphs]


DEGRADED = {
    "picture": node("LoadImage", image="ring.png"),
    "worse": node("KontextDegrade", image=["picture", 0]),
    "small": node("ImageScale", image=["worse", 0]),
}


def files(before, after, kind="LoadImage", title=""):
    return {"a": node(kind, title, image=before), "b": node(kind, image=after)}


def test_what_degrade_image_makes_is_a_control():
    assert judged(["small", 0], ["picture", 0], **DEGRADED) == [[], [WARNING]]


@pytest.mark.parametrize(
    ("nodes", "exchanged"),
    [
        (files("ring_before.png", "ring_after.png"), [ERROR]),
        (files("before/ring.png", "after/ring.png"), [ERROR]),
        (files("D:\\修图前", "D:\\修图后", "VHS_LoadImagesPath"), [ERROR]),
        (files("1.png", "2.png", title="Load Image (before)"), [WARNING]),
        (files("1.png", "2_after.png"), [WARNING]),
        (files("before.png", "after.png", "CLIPTextEncode"), []),
        (files("image.png", "input.png"), []),
        (files("beforehand.png", "afternoon.png"), []),
    ],
)
def test_names_of_files_folders_and_nodes(nodes, exchanged):
    assert judged(["a", 0], ["b", 0], **nodes) == [[], exchanged]


def test_what_both_sides_come_from_tells_nothing():
    nodes = files("before.png", "x.png") | {"c": node("ImageScale", image=["a", 0])}
    assert judged(["a", 0], ["c", 0], **nodes) == [[], []]


def test_one_wire_for_both():
    assert judged(["a", 0], ["a", 0], **files("a.png", "b.png"))[0] == [ERROR]
    assert judged(["a", 0], ["a", 1], **files("a.png", "b.png")) == [[], []]


def test_a_node_made_while_the_graph_runs_is_not_in_it():
    assert swapped_wires({}, "made") == []
