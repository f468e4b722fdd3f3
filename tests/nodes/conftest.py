"""Nodes called as ComfyUI calls them."""

import pytest
from comfy_api.latest import io
from kontext.nodes.load_pairs import PairsFromImages
from kontext.nodes.prepare_pairs import SavePair


@pytest.fixture(autouse=True)
def graph(monkeypatch) -> dict:
    """The graph that runs, and in it the node "me", which is the one called."""
    running = {}
    for node in (PairsFromImages, SavePair):
        hidden = io.HiddenHolder("me", running, None, None, None, None)
        monkeypatch.setattr(node, "hidden", hidden)
    return running
