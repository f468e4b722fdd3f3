"""Save Kontext LoRA says under which name its LoRA is found."""

import pytest
import torch
from kontext.nodes import save

KEY = "lora_unet_double_blocks_0_img_attn_proj"


@pytest.mark.parametrize(
    "form, said",
    [("comfyui", "Saved as ring.safetensors. Choose it in any LoRA loader"), ("peft", "folder")],
)
def test_it_says_where_the_lora_is(form, said, tmp_path, monkeypatch):
    monkeypatch.setattr(save, "output_folder", lambda: tmp_path)
    lora = {f"{KEY}.lora_down.weight": torch.ones(2, 8), f"{KEY}.lora_up.weight": torch.ones(8, 2)}
    made = save.SaveCheckpoint.execute(0, "ring", form, lora=lora)
    (text,) = made.ui.as_dict()["text"]
    assert said in text
