import asyncio
import inspect

import kontext
import pytest
from comfy_api.latest import io
from kontext.nodes import NODES, without_path
from kontext.nodes.compare import CompareCheckpoints
from kontext.nodes.score import ScoreCheckpoints
from kontext.nodes.try_settings import AXES, TrySettings

TYPED = [  # places and names that a user writes
    (node, entry.id)
    for node in NODES
    for entry in node.define_schema().inputs
    if isinstance(entry, io.String.Input) and (entry.id == "name" or entry.id.endswith("folder"))
]


def test_every_node_is_described():
    extension = asyncio.run(kontext.comfy_entrypoint())
    for node in asyncio.run(extension.get_node_list()):
        schema = node.define_schema()
        assert schema.node_id.startswith("Kontext")
        assert schema.description and schema.search_aliases
        for entry in schema.inputs:
            assert entry.tooltip, f"{schema.node_id}.{entry.id} has no tooltip"


@pytest.mark.parametrize("node, typed", TYPED, ids=lambda each: getattr(each, "__name__", each))
def test_a_wrong_place_or_name_is_known_before_the_run(node, typed):
    inputs = dict.fromkeys(inspect.signature(node.validate_inputs).parameters)
    assert node.validate_inputs(**inputs) is True, "all linked to other nodes"
    wrong = node.validate_inputs(**inputs | {typed: "../no such place/*"})
    assert isinstance(wrong, str) and "no such place" in wrong


def test_comfyui_shows_an_error_without_the_packs_path():
    """ComfyUI writes `module.name` before the sentence, of built-in kinds the name alone."""

    class OfThePack(ValueError):
        __module__ = f"{kontext.__name__}.dataset.pair"

    class OfAnother(ValueError):
        pass

    for kind in (OfThePack, OfAnother):
        without_path(kind)
    assert OfThePack.__module__ == "builtins" and OfAnother.__module__ == __name__


LISTS = [
    (CompareCheckpoints, "strengths"), (CompareCheckpoints, "seeds"),
    (CompareCheckpoints, "sampling_steps"), (CompareCheckpoints, "guidance"),
    (ScoreCheckpoints, "strengths"),
]  # fmt: skip


@pytest.mark.parametrize("node, list_", LISTS, ids=lambda each: getattr(each, "__name__", each))
def test_numbers_that_cannot_be_read_are_known_before_the_run(node, list_):
    """They may come after hours of training in the same graph."""
    usual = {entry.id: getattr(entry, "default", None) for entry in node.define_schema().inputs}
    inputs = {each: usual[each] for each in inspect.signature(node.validate_inputs).parameters}
    several = node.define_schema().is_input_list

    def judged(texts):
        return node.validate_inputs(**{k: [v] if several else v for k, v in texts.items()})

    assert judged(inputs) is True and judged(dict.fromkeys(inputs)) is True
    assert f"{list_}: 'one'" in judged(inputs | {list_: "0.5, one"})


def test_tries_that_cannot_be_read_are_known_before_the_run():
    for axes, told in (("rank 8, 32", "write one setting per line"), ("rnk: 8", "cannot be tried"),
                       ("rank: 8, many", "rank is 'many'"), ("rank: 8", "make 1 different tries"),
                       ("rank: 8, -1", "it goes from")):  # fmt: skip
        assert told in TrySettings.validate_inputs("my_edit", axes), axes
    assert TrySettings.validate_inputs("my_edit", "rank: 8, 32") is True
    assert TrySettings.validate_inputs("my_edit", None) is True, "linked"
    assert TrySettings.validate_inputs("my_edit", AXES) is True
