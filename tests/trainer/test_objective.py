"""Our prediction and loss are the host's, and diffusers'."""

import comfy.utils
import torch
from comfy_extras.nodes_edit_model import ReferenceLatent
from comfy_extras.nodes_flux import FluxGuidance
from kontext.trainer import host
from kontext.trainer.config import TrainConfig
from kontext.trainer.flow import add_noise
from kontext.trainer.objective import sample_losses

GUIDANCE = 2.5
CONFIG = TrainConfig(guidance=GUIDANCE)


def apply_model(model, batch, raw_references, noised, sigma):
    """The velocity that ComfyUI's sampler sees after ReferenceLatent and FluxGuidance."""
    conditioning = [[batch.text.cond, {"pooled_output": batch.text.pooled}]]
    for reference in raw_references:
        conditioning = ReferenceLatent.execute(conditioning, {"samples": reference})[0]
    (cond, extras), *_ = FluxGuidance.execute(conditioning, GUIDANCE)[0]
    inner = model.model
    with torch.inference_mode():
        conds = inner.extra_conds(noise=noised, device=noised.device, cross_attn=cond, **extras)
        ready = {
            name: each.process_cond(batch_size=1, area=None).cond for name, each in conds.items()
        }
        denoised = inner.apply_model(noised, sigma, **ready)
        return (noised - denoised) / sigma.view(-1, 1, 1, 1)


def test_prediction_is_that_of_apply_model(base, make_batch):
    """Reference: comfy.samplers, with raw reference latents."""
    batch = make_batch(1)
    sigma, noise = torch.tensor([0.7]), torch.randn(batch.target.shape)
    noised = add_noise(batch.target, noise, sigma)
    raw = [base.model.model.process_latent_out(reference) for reference in batch.references]
    expected = apply_model(base.model, batch, raw, noised, sigma)
    with host.differentiable():
        ours = host.predict_velocity(
            base.flux, noised, sigma, batch.text, batch.references, GUIDANCE
        )
    error = (ours - expected).norm() / expected.norm()
    assert error < 1e-5


def diffusers_transformer(weights, config):
    """diffusers' Kontext transformer with these weights, by ComfyUI's own table of names."""
    from diffusers import FluxTransformer2DModel

    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=config["depth"],
        num_single_layers=config["depth_single_blocks"],
        attention_head_dim=128,
        num_attention_heads=config["num_heads"],
        joint_attention_dim=config["context_in_dim"],
        pooled_projection_dim=config["vec_in_dim"],
        guidance_embeds=True,
        axes_dims_rope=(16, 56, 56),
    )
    table = comfy.utils.flux_to_diffusers(config)
    state = {}
    for theirs, ours in table.items():
        if theirs not in transformer.state_dict():
            continue
        if isinstance(ours, str):
            state[theirs] = weights[ours]
        else:
            name, rows = ours[0], ours[1]
            state[theirs] = weights[name].narrow(*rows) if rows else weights[name]
            if len(ours) > 2:
                state[theirs] = ours[2](state[theirs])
    transformer.load_state_dict(state)
    return transformer


def test_prediction_and_loss_are_those_of_diffusers(base, weights, make_batch):
    """Reference: FluxTransformer2DModel with the converted weights, packed as its pipeline does."""
    from diffusers import FluxKontextPipeline

    batch = make_batch(1)
    sigma, noise = torch.tensor([0.3]), torch.randn(batch.target.shape)
    noised = add_noise(batch.target, noise, sigma)
    transformer = diffusers_transformer(weights, base.model.model.model_config.unet_config)

    def packed(latent):
        rows, columns = latent.shape[2] // 2, latent.shape[3] // 2
        ids = FluxKontextPipeline._prepare_latent_image_ids(1, rows, columns, "cpu", torch.float32)
        return FluxKontextPipeline._pack_latents(latent, 1, 16, *latent.shape[2:]), ids

    image, image_ids = packed(noised)
    reference, reference_ids = packed(batch.references[0])
    reference_ids[..., 0] = 1
    with torch.no_grad():
        output = transformer(
            hidden_states=torch.cat([image, reference], dim=1),
            timestep=sigma,
            guidance=torch.tensor([GUIDANCE]),
            pooled_projections=batch.text.pooled,
            encoder_hidden_states=batch.text.cond,
            txt_ids=torch.zeros(batch.text.cond.shape[1], 3),
            img_ids=torch.cat([image_ids, reference_ids]),
            return_dict=False,
        )[0][:, : image.shape[1]]
    height, width = (8 * side for side in noised.shape[2:])
    expected = FluxKontextPipeline._unpack_latents(output, height, width, 8)
    with host.differentiable():
        ours = host.predict_velocity(
            base.flux, noised, sigma, batch.text, batch.references, GUIDANCE
        )
        loss = sample_losses(base.flux, batch, sigma, noise, CONFIG, torch.float32)
    assert (ours - expected).norm() / expected.norm() < 1e-4
    expected_loss = (expected - (noise - batch.target)).square().mean()
    torch.testing.assert_close(loss[0], expected_loss, rtol=1e-4, atol=0)
