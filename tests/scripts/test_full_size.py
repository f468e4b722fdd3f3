"""The files that the full-size benchmark makes are read by ComfyUI as the real ones are."""

import comfy.ldm.flux.model
import comfy.ops
import comfy.sd
import pytest
import torch
from comfy.quant_ops import QuantizedTensor
from kontext.trainer import host

from benchmark.full_size_files import PLAIN, File, Values, files_of, write_file

from ..trainer.conftest import SHAPE


@pytest.mark.slow
@pytest.mark.parametrize("quantised", ["", "."])
def test_a_model_file_is_loaded_whole_and_keeps_activations_in_size(tmp_path, quantised):
    """Every weight comes from the file; a linear's output is about as large as its input."""
    made = comfy.ldm.flux.model.Flux(**SHAPE, **PLAIN)
    file = File("model.safetensors", lambda: made, quantised)
    with torch.inference_mode():
        model = comfy.sd.load_diffusion_model(str(write_file(file, tmp_path, Values())))
    network = model.model.diffusion_model
    layer = network.double_blocks[0].img_mlp[0]
    assert isinstance(layer.weight, QuantizedTensor) == bool(quantised)
    assert host.weight_format(network) == ("fp8" if quantised else "fp32")  # fp32 as on any CPU
    x = torch.randn(64, layer.in_features, generator=torch.Generator().manual_seed(0))
    y = host.FrozenLinear(layer).forward(x)
    assert y.std().item() == pytest.approx(1, abs=0.1)


def test_a_model_can_be_cut_to_fewer_blocks():
    model, *others = files_of("qwen", [2])
    assert model.path == "diffusion_models/qwen_image_edit_2511_fp8mixed_2_blocks.safetensors"
    assert len(model.module().transformer_blocks) == 2
    assert others == [*files_of("qwen")[1:]]
