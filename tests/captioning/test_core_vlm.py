"""ComfyUI's own vision-language models, through a genuine CLIP object."""

import comfy.model_management as memory
import pytest
import torch
from kontext.captioning.captioner import CaptionError
from kontext.captioning.core_vlm import CoreVision

from . import tiny_models as tiny

pytestmark = pytest.mark.slow

RED, BLUE = tiny.picture(tiny.RED), tiny.picture(tiny.BLUE)


def test_one_and_several_pictures(core_clip):
    model = CoreVision(core_clip, tiny.PROMPT, max_tokens=20)
    assert model.describe([(RED,)]) == [tiny.RED_TEXT]
    assert model.describe([(BLUE,), (RED,)]) == [tiny.BLUE_TEXT, tiny.RED_TEXT]


def test_control_and_target_in_one_question(core_clip):
    larger = tiny.picture(tiny.BLUE, (96, 96))  # ComfyUI wants one size; the node fits it
    model = CoreVision(core_clip, tiny.PROMPT, max_tokens=20)
    assert model.describe([(RED, larger)]) == [tiny.PAIR_TEXT]


def test_bf16_weights(core_clip):
    network = core_clip.cond_stage_model
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.to(torch.bfloat16)
    try:
        model = CoreVision(core_clip, tiny.PROMPT, max_tokens=20)
        assert model.describe([(RED,), (BLUE,)]) == [tiny.RED_TEXT, tiny.BLUE_TEXT]
    finally:
        network.to(torch.float32).load_state_dict(before)


@pytest.mark.parametrize("keep", [True, False])
def test_the_model_is_kept_or_moved_out(core_clip, keep):
    model = CoreVision(core_clip, tiny.PROMPT, max_tokens=1, keep=keep)
    model.describe([(RED,)])
    model.release()
    loaded = [entry.model for entry in memory.current_loaded_models]
    assert (core_clip.patcher in loaded) is keep


def test_a_text_encoder_that_cannot_write_is_named():
    class FluxClip:
        cond_stage_model = torch.nn.Linear(1, 1)

    with pytest.raises(CaptionError, match="Linear encodes text but cannot write.*Qwen3-VL"):
        CoreVision(FluxClip(), "Describe.")
