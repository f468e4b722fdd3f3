"""What is missing inside ComfyUI is named before a training begins."""

import comfy.model_management
import comfy.ops
import pytest
from kontext.trainer import host
from kontext.trainer.host import names


@pytest.fixture
def lacking(monkeypatch):
    """A function: take a name out of ComfyUI's module, as another version may have done."""

    def take_out(module, name):
        monkeypatch.delattr(module, name)
        names.missing_names.cache_clear()

    yield take_out
    names.missing_names.cache_clear()


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
