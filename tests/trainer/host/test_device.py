"""What is free on a CPU: weights that are mapped from their file take none of it."""

import comfy.utils
import pytest
import torch
from kontext.trainer import host
from safetensors.torch import save_file

from ..conftest import flux_weights, load_flux

FREE = 10**9


@pytest.fixture(autouse=True)
def free(monkeypatch):
    monkeypatch.setattr(host.device.memory, "get_free_memory", lambda device: FREE)


def outside(model):
    """Bytes of the sampler's tables, which are in no file."""
    tensors = model.model.state_dict().items()
    return sum(tensor.nbytes for name, tensor in tensors if not name.startswith("diffusion_model."))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float8_e4m3fn])
def test_mapped_weights_are_not_counted_twice(tmp_path, dtype):
    """11.9 GB of weights beside 13 GB free were planned with as 24.9. ComfyUI's dynamic patchers
    leave weights where its file reader has mapped them."""
    weights = flux_weights(hidden_size=256, num_heads=2)
    path, model = tmp_path / "model.safetensors", load_flux(weights)
    save_file({name: tensor.to(dtype) for name, tensor in weights.items()}, path)
    assert host.device.free_bytes(model) == FREE + model.model_size()
    network = model.model.diffusion_model
    network.load_state_dict(comfy.utils.load_torch_file(str(path)), assign=True)
    assert network.img_in.weight.dtype == dtype
    assert host.device.free_bytes(model) == FREE + outside(model)


def test_of_a_model_in_two_parts_only_the_one_in_memory_makes_room(tmp_path):
    weights = flux_weights()
    path, model = tmp_path / "model.safetensors", load_flux(weights)
    part = {name: tensor for name, tensor in weights.items() if name.startswith("double_blocks")}
    save_file(part, path)
    mapped = comfy.utils.load_torch_file(str(path))
    model.model.diffusion_model.load_state_dict(mapped, strict=False, assign=True)
    other = sum(tensor.nbytes for name, tensor in weights.items() if name not in part)
    assert host.device.free_bytes(model) == FREE + other + outside(model)
