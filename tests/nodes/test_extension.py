import asyncio

import kontext
from kontext.nodes import without_path


def test_every_node_is_described():
    extension = asyncio.run(kontext.comfy_entrypoint())
    for node in asyncio.run(extension.get_node_list()):
        schema = node.define_schema()
        assert schema.node_id.startswith("Kontext")
        assert schema.description and schema.search_aliases
        for entry in schema.inputs:
            assert entry.tooltip, f"{schema.node_id}.{entry.id} has no tooltip"


def test_comfyui_shows_an_error_without_the_packs_path():
    """ComfyUI writes `module.name` before the sentence, of built-in kinds the name alone."""

    class OfThePack(ValueError):
        __module__ = f"{kontext.__name__}.dataset.pair"

    class OfAnother(ValueError):
        pass

    for kind in (OfThePack, OfAnother):
        without_path(kind)
    assert OfThePack.__module__ == "builtins" and OfAnother.__module__ == __name__
