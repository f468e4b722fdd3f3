"""Where a captioner's weights are, as ComfyUI's memory management sees it."""

import comfy.model_management as memory
import pytest
from kontext.captioning import transformers_captioner
from kontext.captioning.blip import Blip
from kontext.captioning.transformers_captioner import Weights

from . import tiny_models as tiny

RED = (tiny.picture(tiny.RED),)


@pytest.fixture
def loads(monkeypatch):
    """Names of the classes that read weights from disk, in order."""
    from transformers import AutoModelForImageTextToText as Auto

    read, seen = Auto.from_pretrained.__func__, []

    def counted(cls, *args, **kwargs):
        seen.append(args[0].name)
        return read(cls, *args, **kwargs)

    monkeypatch.setattr(Auto, "from_pretrained", classmethod(counted))
    monkeypatch.setattr(transformers_captioner, "_kept", {})
    memory.unload_all_models()
    return seen


def blip(tiny_captioner, keep=False, prompt=""):
    return Blip(Weights(tiny_captioner("blip"), "fp32"), keep=keep, prompt=prompt)


def resident_bytes():
    return [entry.model_loaded_memory() for entry in memory.current_loaded_models]


def test_many_pictures_load_once_and_comfyui_counts_the_weights(tiny_captioner, loads):
    model = blip(tiny_captioner)
    for _ in range(3):
        model.describe([RED])
    assert loads == ["blip"]
    weights = sum(p.numel() * 4 for p in model._loaded.model.parameters())
    assert resident_bytes() and resident_bytes()[0] >= weights
    model.release()
    assert resident_bytes() == []


def test_nothing_is_loaded_before_there_is_a_picture(tiny_captioner, loads):
    blip(tiny_captioner).release()
    assert loads == []


def test_a_kept_model_serves_the_next_captioner_of_the_same_weights(tiny_captioner, loads):
    for prompt in ("", "a photo"):
        model = blip(tiny_captioner, keep=True, prompt=prompt)
        model.describe([RED])
        model.release()
    assert loads == ["blip"]
    assert len(resident_bytes()) == 1


def test_a_kept_model_goes_when_comfyui_needs_the_memory(tiny_captioner, loads):
    model = blip(tiny_captioner, keep=True)
    model.describe([RED])
    model.release()
    memory.unload_all_models()  # what loading a larger model, or the Free button, does
    again = blip(tiny_captioner, keep=True)
    assert again.describe([RED]) == [tiny.RED_TEXT]
    assert loads == ["blip", "blip"]


def test_cancel_stops_within_one_word(tiny_captioner, loads):
    model = blip(tiny_captioner)
    memory.interrupt_current_processing(True)
    with pytest.raises(memory.InterruptProcessingException):
        model.describe([RED])
    assert model.describe([RED]) == [tiny.RED_TEXT]
