"""Translations name nodes and inputs that exist."""

import asyncio
import json
from pathlib import Path

import kontext
import pytest

LOCALES = Path(__file__).resolve().parents[2] / "locales"


async def schemas() -> dict:
    extension = await kontext.comfy_entrypoint()
    found = [node.define_schema() for node in await extension.get_node_list()]
    return {schema.node_id: schema for schema in found}


@pytest.mark.parametrize(
    "path", sorted(LOCALES.glob("*/nodeDefs.json")), ids=lambda path: path.parent.name
)
def test_every_translation_has_its_input(path):
    nodes = asyncio.run(schemas())
    for node_id, words in json.loads(path.read_text(encoding="utf-8")).items():
        assert node_id in nodes
        inputs = {each.id for each in nodes[node_id].inputs}
        assert set(words.get("inputs", {})) <= inputs, node_id
        assert {int(n) for n in words.get("outputs", {})} <= set(range(len(nodes[node_id].outputs)))
