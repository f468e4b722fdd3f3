"""What ships in models/demo: the stock loaders take it, and it is small."""

import time

import comfy.model_base
import comfy.sd
import comfy.utils
import numpy as np
import torch
from kontext.nodes.demo_model import DemoModel
from kontext.trainer.host.demo import FOLDER, load_demo_model, load_text_encoder

MEGABYTE = 1_000_000


def test_comfyui_takes_it_for_flux(demo):
    model, clip, vae = demo
    assert type(model.model) is comfy.model_base.Flux
    assert model.model.model_config.unet_config["guidance_embed"]
    assert type(clip) is comfy.sd.CLIP
    assert vae.latent_channels == 16
    assert vae.downscale_ratio == 8


def test_every_weight_of_the_network_is_in_the_file(demo):
    file = comfy.utils.load_torch_file(str(FOLDER / "demo_kontext.safetensors"))
    network = demo[0].model.diffusion_model.state_dict()
    assert file.keys() == network.keys()
    assert all(torch.isfinite(weight.float()).all() for weight in file.values())


def test_the_weights_fit_into_24_megabytes():
    assert sum(file.stat().st_size for file in FOLDER.glob("*.safetensors")) < 24 * MEGABYTE


def test_a_second_load_takes_under_3_seconds_of_computing():
    """Process time, so that a busy machine does not count."""
    load_demo_model()
    started = time.process_time()
    load_demo_model()
    assert time.process_time() - started < 3 * torch.get_num_threads()


def test_latents_have_the_mean_and_deviation_that_the_sampler_expects(demo, photographs):
    model, _, vae = demo
    latents = model.model.process_latent_in(vae.encode(photographs.movedim(1, -1)))
    assert abs(latents.mean()) < latents.std() / 3
    assert 2**-0.5 < latents.std() < 2**0.5


def test_the_text_encoder_is_the_same_on_every_machine():
    """Reference: NumPy's frozen RandomState stream, seeded with the CRC of the tensor's name."""
    clip = load_text_encoder()
    embedding = clip.cond_stage_model.t5xxl.transformer.shared.weight
    expected = np.random.RandomState(774540522).standard_normal((1, 64))
    assert embedding.shape == (32128, 64)
    np.testing.assert_allclose(embedding[0].float().numpy(), expected[0], atol=1e-3)


def test_the_node_returns_model_clip_and_vae():
    schema = DemoModel.GET_SCHEMA()
    assert schema.node_id == "KontextDemoModel"
    assert [output.io_type for output in schema.outputs] == ["MODEL", "CLIP", "VAE"]
    assert len(DemoModel.execute().args) == 3
