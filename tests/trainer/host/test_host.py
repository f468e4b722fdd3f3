"""What the pack accepts as FLUX.1-Kontext, and that sampling is ComfyUI's own."""

import pytest
import torch
from kontext.trainer import host
from kontext.trainer.families import recognise as check_base
from kontext.trainer.host import Base, BaseModelError


def test_the_demo_shape_is_accepted(base):
    check_base(base)


def test_schnell_is_refused(base, make_flux):
    schnell = make_flux(guidance_embed=False)
    with pytest.raises(BaseModelError, match="schnell"):
        check_base(Base(schnell, base.clip, base.vae))


def test_fill_is_refused(base, make_flux):
    fill = make_flux(in_channels=96)
    with pytest.raises(BaseModelError, match="96 input channels"):
        check_base(Base(fill, base.clip, base.vae))


def test_other_architectures_are_refused(base):
    """The smallest UNet that ComfyUI detects as SD1.5's family stands for all that is not Flux."""
    import comfy.model_patcher
    import comfy.supported_models

    config = comfy.supported_models.SD15(
        dict(
            image_size=32, in_channels=4, out_channels=4, model_channels=32, num_res_blocks=[1, 1],
            channel_mult=[1, 1], transformer_depth=[0, 0], transformer_depth_output=[0, 0, 0, 0],
            transformer_depth_middle=0, num_heads=1, context_dim=None, dtype=torch.float32,
            use_spatial_transformer=False, legacy=False, adm_in_channels=None,
        )
    )  # fmt: skip
    unet = comfy.model_base.BaseModel(config, device="cpu")
    cpu = torch.device("cpu")
    patcher = comfy.model_patcher.ModelPatcher(unet, load_device=cpu, offload_device=cpu)
    with pytest.raises(BaseModelError, match="not ComfyUI.s FLUX.1"):
        check_base(Base(patcher, base.clip, base.vae))


def test_a_foreign_text_encoder_is_refused(base):
    class Other:
        cond_stage_model = torch.nn.Linear(1, 1)

    with pytest.raises(BaseModelError, match="clip_l and t5xxl"):
        check_base(Base(base.model, Other(), base.vae))


def test_a_text_encoder_of_another_width_is_refused(base, make_flux):
    wide = make_flux(context_in_dim=96)
    with pytest.raises(BaseModelError, match="64 wide, this model expects 96"):
        check_base(Base(wide, base.clip, base.vae))


def test_a_foreign_vae_is_refused(base):
    import comfy.taesd.taesd

    weights = comfy.taesd.taesd.TAESD(latent_channels=4).state_dict()
    vae = comfy.sd.VAE(sd={name: torch.zeros_like(tensor) for name, tensor in weights.items()})
    with pytest.raises(BaseModelError, match="4 latent channels"):
        check_base(Base(base.model, base.clip, vae))


def test_sampling_is_ksamplers(base):
    """Reference: the stock nodes ReferenceLatent, FluxGuidance and KSampler."""
    from comfy_extras.nodes_edit_model import ReferenceLatent
    from comfy_extras.nodes_flux import FluxGuidance

    import nodes

    with torch.inference_mode():
        text = host.encode_text(base.clip, "make it warm")
        reference = torch.randn(1, 16, 8, 8)
        positive = nodes.CLIPTextEncode().encode(base.clip, "make it warm")[0]
        positive = ReferenceLatent.execute(positive, {"samples": reference})[0]
        positive = FluxGuidance.execute(positive, 2.5)[0]
        empty = {"samples": torch.zeros(1, 16, 8, 12)}
        expected = nodes.KSampler().sample(
            base.model, 7, 3, 1.0, "euler", "simple", positive, positive, empty, 1.0
        )[0]["samples"]
        ours = host.sample(base.model, text, [reference], width=96, height=64, seed=7, steps=3)
    torch.testing.assert_close(ours, expected, rtol=0, atol=0)


def test_base_hash_sees_weights_not_patches_in_force(base, weights, make_flux):
    before = host.base_hash(base.model)
    assert host.base_hash(make_flux(seed=1)) != before
    lora = {
        "lora_unet_single_blocks_0_linear2.lora_down.weight": torch.randn(4, 640),
        "lora_unet_single_blocks_0_linear2.lora_up.weight": torch.randn(128, 4),
    }
    with torch.inference_mode():
        patched = host.with_lora(base.model, lora, 1.0)
        host.device.memory.load_models_gpu([patched])  # merges the LoRA into the shared weights
        assert host.base_hash(base.model) == before
        assert host.base_hash(patched) != before
        patched.unpatch_model()


def test_fingerprints_work_on_the_largest_weights():
    """FLUX.1's linear1 and T5's embedding have more elements than float32 can count."""
    for shape in [(21504, 3072), (32128, 4096)]:
        large = torch.zeros(1, dtype=torch.bfloat16).expand(shape)  # no memory behind it
        assert len(host.fingerprint({"weight": large[:, :]})) == 64


def test_fingerprints_see_the_last_value():
    one = torch.zeros(3, 5000)
    other = one.clone()
    other[-1, -1] = 1
    assert host.fingerprint({"weight": one}) != host.fingerprint({"weight": other})
