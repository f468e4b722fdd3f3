import math

import pytest
import torch
from comfy.model_sampling import flux_time_shift
from kontext.trainer.flow import (
    TIMESTEPS,
    add_noise,
    draw_quantiles,
    resolution_shift,
    shifted,
    sigma_quantiles,
    velocity_loss,
)
from scipy import stats


@pytest.mark.parametrize("tokens, mu", [(256, 0.5), (4096, 1.15)])
def test_shift_is_comfyuis_flux_schedule(tokens, mu):
    """Reference: comfy.model_sampling.flux_time_shift at BFL's two anchor sizes."""
    sigma = torch.linspace(0.05, 1, 20)
    ours = shifted(sigma, resolution_shift(tokens))
    torch.testing.assert_close(ours, flux_time_shift(mu, 1.0, sigma), rtol=1e-5, atol=0)


def test_quantiles_are_those_of_the_logit_normal():
    """Reference: scipy's normal distribution through the logistic function."""
    quantiles = torch.tensor([0.01, 0.25, 0.5, 0.9])
    logistic = 1 / (1 + torch.exp(-torch.tensor(stats.norm.ppf(quantiles.numpy()))))
    expected = 3 * logistic / (1 + 2 * logistic)
    torch.testing.assert_close(
        sigma_quantiles(quantiles, "structure", 1024).double(), expected, rtol=1e-5, atol=0
    )


def test_presets_order_by_noise():
    """structure trains on more noise than balanced, detail on less, at every picture size."""
    quantiles = (torch.arange(1000) + 0.5) / 1000
    for tokens in (256, 1024, 4096):
        mean = {name: sigma_quantiles(quantiles, name, tokens).mean() for name in TIMESTEPS}
        assert mean["detail"] < mean["balanced"]
        assert mean["detail"] < mean["structure"]
    few, many = (sigma_quantiles(quantiles, "balanced", t).mean() for t in (256, 4096))
    assert few < many


def test_quantiles_are_stratified():
    drawn = draw_quantiles(8, torch.Generator().manual_seed(0))
    assert sorted((drawn * 8).long().tolist()) == list(range(8))


def test_noise_and_loss_follow_the_straight_path():
    """d/dsigma of the noised latent is the velocity; the true velocity has no loss."""
    latent, noise = torch.randn(2, 16, 4, 4), torch.randn(2, 16, 4, 4)
    low, high = torch.tensor([0.2, 0.5]), torch.tensor([0.3, 0.6])
    slope = (add_noise(latent, noise, high) - add_noise(latent, noise, low)) / 0.1
    torch.testing.assert_close(slope, noise - latent, rtol=1e-4, atol=1e-5)
    assert velocity_loss(slope, noise, latent).max() < 1e-8
    assert math.isclose(velocity_loss(slope + 2, noise, latent).mean(), 4, rel_tol=1e-4)
