"""What is missing inside ComfyUI is named before a training begins."""

import ast
from pathlib import Path

import comfy.model_management
import comfy.ops
import pytest
from kontext.trainer import host
from kontext.trainer.host import names

ROOT = Path(names.__file__).parents[2]


@pytest.fixture
def lacking(monkeypatch):
    """A function: take a name out of ComfyUI's module, as another version may have done."""

    def take_out(module, name):
        monkeypatch.delattr(module, name)
        names.missing_names.cache_clear()

    yield take_out
    names.missing_names.cache_clear()


def from_imports():
    """Every `from comfy… import name` of the pack, as (file, module, name)."""
    for path in [*ROOT.glob("trainer/**/*.py"), *ROOT.glob("captioning/*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("comfy."):
                yield from ((path.name, node.module, each.name) for each in node.names)


def test_what_may_go_missing_is_not_imported_by_name():
    """It would take the whole pack down at the start. Modules, and the three classes that every
    pack relies on, may be."""
    lasting = {"ModelPatcher", "CLIP", "VAE", "args"}
    found = [each for each in from_imports() if each[2] not in lasting]
    assert [each for each in found if not names.is_module(*each[1:])] == []


def test_this_comfyui_has_all_names():
    assert names.missing_names() == ()
    host.require_names()


@pytest.mark.parametrize("module", [comfy.model_management, comfy.ops], ids=lambda m: m.__name__)
def test_what_is_missing_is_named(lacking, module):
    name = {"model_management": "in_training", "ops": "cast_bias_weight"}
    name = name[module.__name__.rpartition(".")[2]]
    lacking(module, name)
    with pytest.raises(host.HostError, match=f"lacks {module.__name__}.{name}, which training"):
        host.require_names()
