"""Our prediction and loss are the host's, and diffusers'."""

import torch
from comfy_extras.nodes_edit_model import ReferenceLatent
from comfy_extras.nodes_flux import FluxGuidance
from kontext.trainer import host
from kontext.trainer.config import TrainConfig
from kontext.trainer.families import family_of
from kontext.trainer.loss.flow import add_noise
from kontext.trainer.loss.objective import sample_losses

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
            base.model.model, noised, sigma, batch.text, batch.references, GUIDANCE
        )
    error = (ours - expected).norm() / expected.norm()
    assert error < 1e-5


def test_prediction_and_loss_are_those_of_diffusers(
    base, weights, make_batch, diffusers_transformer, diffusers_prediction
):
    """Reference: FluxTransformer2DModel with the converted weights, packed as its pipeline does."""
    batch = make_batch(1)
    sigma, noise = torch.tensor([0.3]), torch.randn(batch.target.shape)
    noised = add_noise(batch.target, noise, sigma)
    transformer = diffusers_transformer(weights, base.model.model.model_config.unet_config)

    expected = diffusers_prediction(transformer, noised, sigma, batch, GUIDANCE)
    with host.differentiable():
        ours = host.predict_velocity(
            base.model.model, noised, sigma, batch.text, batch.references, GUIDANCE
        )
        loss = sample_losses(family_of(base.model), batch, sigma, noise, CONFIG, torch.float32)
    assert (ours - expected).norm() / expected.norm() < 1e-4
    expected_loss = (expected - (noise - batch.target)).square().mean()
    torch.testing.assert_close(loss[0], expected_loss, rtol=1e-4, atol=0)
