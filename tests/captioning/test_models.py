"""Every family through the real loading path, on tiny models that know two colours by heart."""

import pytest
from kontext.captioning.blip import Blip
from kontext.captioning.captioner import CaptionError
from kontext.captioning.florence import Florence
from kontext.captioning.image_text import ImageText
from kontext.captioning.joycaption import JoyCaption
from kontext.captioning.transformers_captioner import Weights

from . import tiny_models as tiny
from .tiny_old_florence import old_florence

RED = (tiny.picture(tiny.RED, (90, 60)),)
BLUE = (tiny.picture(tiny.BLUE, (50, 80)),)
SHORT = {"max_new_tokens": 30}

FAMILIES = {
    "blip": (Blip, {}),
    "blip2": (Blip, {}),
    "florence": (Florence, {"task": "caption"}),
    "joycaption": (JoyCaption, {"caption_type": "Descriptive", "length": "any"}),
    "llava": (ImageText, {"prompt": tiny.PROMPT}),
    "qwen2_5_vl": (ImageText, {"prompt": tiny.PROMPT}),
    "qwen3_vl": (ImageText, {"prompt": tiny.PROMPT}),
    "paligemma": (ImageText, {"prompt": "caption en"}),
    "git": (ImageText, {"prompt": ""}),
}


def captioner(name, folder, **options):
    kind, asked = FAMILIES[name]
    options = {"generation": SHORT} | options
    return kind(Weights(folder, options.pop("precision", "fp32")), **asked, **options)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", FAMILIES)
def test_each_picture_gets_its_own_caption(tiny_captioner, name, precision):
    model = captioner(name, tiny_captioner(name), precision=precision)
    assert model.describe([RED]) == [tiny.RED_TEXT]
    several = model.describe([BLUE, RED, BLUE])
    assert several == [tiny.BLUE_TEXT, tiny.RED_TEXT, tiny.BLUE_TEXT]
    model.release()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_old_florence_layout_says_the_same(tiny_captioner, tmp_path, precision):
    folder = old_florence(tiny_captioner("florence"), tmp_path / "Florence-2-base")
    model = captioner("florence", folder, precision=precision)
    assert model.describe([RED, BLUE]) == [tiny.RED_TEXT, tiny.BLUE_TEXT]


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl"])
def test_control_and_target_in_one_question(tiny_captioner, name):
    model = captioner(name, tiny_captioner(name))
    assert model.describe([RED + BLUE, RED]) == [tiny.PAIR_TEXT, tiny.RED_TEXT]


@pytest.mark.parametrize("name", ["joycaption", "paligemma"])
def test_models_that_see_one_picture_say_so(tiny_captioner, name):
    with pytest.raises(CaptionError, match="one picture at a time"):
        captioner(name, tiny_captioner(name)).describe([RED + BLUE])


def test_sampling_repeats_itself_and_leaves_the_global_seed_alone(tiny_captioner):
    import torch

    hot = {"do_sample": True, "temperature": 3.0, "max_new_tokens": 20}
    folder = tiny_captioner("qwen3_vl")
    state = torch.random.get_rng_state()
    first = captioner("qwen3_vl", folder, generation=hot, seed=1).describe([RED])
    assert torch.equal(state, torch.random.get_rng_state())
    assert captioner("qwen3_vl", folder, generation=hot, seed=1).describe([RED]) == first
    assert captioner("qwen3_vl", folder, generation=hot, seed=2).describe([RED]) != first


def test_a_prompt_opens_blips_sentence(tiny_captioner):
    model = Blip(Weights(tiny_captioner("blip"), "fp32"), prompt="a photo", generation=SHORT)
    assert model.describe([RED]) == [tiny.RED_TEXT]


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("</s><s>ring<loc_1><loc_2><loc_3><loc_4>hand<loc_5><loc_6></s><pad>", "ring, hand"),
        ("</s><s>ring<loc_1><loc_2>ring<loc_3><loc_4></s>", "ring"),
        ("</s><s>a plain caption.</s>", "a plain caption."),
    ],
)
def test_florences_positions_are_left_out(output, words):
    from kontext.captioning.florence import _without_positions

    assert _without_positions(output) == words


@pytest.mark.parametrize(
    ("kind", "length", "asked"),
    [
        ("Descriptive", "any", "Write a detailed description for this image. Be brief."),
        ("MidJourney", "40", "Write a MidJourney prompt for this image within 40 words. Be brief."),
        ("MidJourney", "long", "Write a long MidJourney prompt for this image. Be brief."),
    ],
)
def test_joycaption_is_asked_in_its_own_words(kind, length, asked):
    from kontext.captioning.joycaption import joycaption_prompt

    assert joycaption_prompt(kind, length, "Be brief.\n") == asked


def test_a_torchaudio_of_another_torch_is_named(tiny_captioner, monkeypatch):
    """What transformers raises then: its own ImportError, the reason hidden behind it."""

    def fail(*_, **__):
        try:
            raise RuntimeError("PyTorch and TorchAudio were compiled with different CUDA versions")
        except RuntimeError as error:
            raise ModuleNotFoundError("Could not import module 'AutoProcessor'") from error

    model = captioner("blip", tiny_captioner("blip"))
    monkeypatch.setattr(model, "read", fail)
    with pytest.raises(CaptionError, match="torchaudio does not match torch"):
        model.describe([RED])


@pytest.mark.parametrize("name", ["joycaption", "qwen3_vl", "florence", "blip"])
def test_8_bit_weights(tiny_captioner, name):
    pytest.importorskip("bitsandbytes")
    model = captioner(name, tiny_captioner(name), precision="8-bit")
    assert model.describe([RED, BLUE]) == [tiny.RED_TEXT, tiny.BLUE_TEXT]
    kinds = {type(module).__name__ for module in model._loaded.model.modules()}
    assert "Linear8bitLt" in kinds
