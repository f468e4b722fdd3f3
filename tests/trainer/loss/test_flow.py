import math

import pytest
import torch
from comfy.model_sampling import flux_time_shift
from kontext.trainer.config import TIMESTEPS, TrainConfig
from kontext.trainer.families.flux1 import resolution_shift
from kontext.trainer.loss.flow import (
    add_noise,
    edit_weights,
    part_of_step,
    sample_quantiles,
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
        sigma_quantiles(quantiles, TrainConfig(timesteps="structure"), 1024).double(),
        expected,
        rtol=1e-5,
        atol=0,
    )


def mean_sigma(tokens, **settings):
    quantiles = (torch.arange(1000) + 0.5) / 1000
    return sigma_quantiles(quantiles, TrainConfig(**settings), resolution_shift(tokens)).mean()


def test_presets_order_by_noise():
    """structure trains on more noise than detail at every size, balanced the more the larger."""
    for tokens in (256, 1024, 4096):
        mean = {name: mean_sigma(tokens, timesteps=name) for name in TIMESTEPS}
        assert mean["detail"] < mean["balanced"]
        assert mean["detail"] < mean["structure"]
    assert mean_sigma(256) < mean_sigma(1024) < mean_sigma(4096)


def test_parameters_of_the_density():
    """Closed forms: the median of a logit-normal is the logistic of its mean, then shifted."""
    half = torch.tensor([0.5])
    for mean, shift in [(0.0, 1.0), (1.0, 1.0), (-0.5, 3.0)]:
        config = TrainConfig(timesteps="logit_normal", sigma_mean=mean, sigma_shift=shift)
        logistic = 1 / (1 + math.exp(-mean))
        expected = shift * logistic / (1 + (shift - 1) * logistic)
        assert sigma_quantiles(half, config, 1024).item() == pytest.approx(expected)
    narrow = TrainConfig(timesteps="logit_normal", sigma_spread=0.1, sigma_shift=1.0)
    ends = sigma_quantiles(torch.tensor([0.01, 0.99]), narrow, 1024)
    assert 0.4 < ends[0] < ends[1] < 0.6
    uniform = TrainConfig(timesteps="uniform", sigma_shift=3.0)
    assert sigma_quantiles(half, uniform, 1024).item() == pytest.approx(0.75)


def test_quantiles_are_stratified():
    drawn = sample_quantiles(8, torch.Generator().manual_seed(0))
    assert sorted((drawn * 8).long().tolist()) == list(range(8))


@pytest.mark.parametrize("count", [1, 4])
def test_quantiles_of_a_round_of_steps_are_stratified(count):
    """Eight steps of `count` samples: one quantile in each of the 8 · count slices."""
    rounds = []
    for first in (0, 8):
        drawn = [
            sample_quantiles(count, torch.Generator().manual_seed(step), *part_of_step(3, step))
            for step in range(first, first + 8)
        ]
        slices = (torch.cat(drawn) * 8 * count).long().tolist()
        assert sorted(slices) == list(range(8 * count))
        rounds.append(slices)
    assert rounds[0] != rounds[1]


def test_noise_and_loss_follow_the_straight_path():
    """d/dsigma of the noised latent is the velocity; the true velocity has no loss."""
    latent, noise = torch.randn(2, 16, 4, 4), torch.randn(2, 16, 4, 4)
    low, high = torch.tensor([0.2, 0.5]), torch.tensor([0.3, 0.6])
    slope = (add_noise(latent, noise, high) - add_noise(latent, noise, low)) / 0.1
    torch.testing.assert_close(slope, noise - latent, rtol=1e-4, atol=1e-5)
    mse = TrainConfig()
    assert velocity_loss(slope, noise, latent, mse, None).max() < 1e-8
    assert math.isclose(velocity_loss(slope + 2, noise, latent, mse, None).mean(), 4, rel_tol=1e-4)


def test_huber_is_square_for_small_and_linear_for_large_errors():
    latent = noise = torch.zeros(1, 16, 2, 2)
    huber, small, large = TrainConfig(loss="huber", huber_delta=0.1), 1e-3, 1e3

    def loss(error):
        return velocity_loss(torch.full_like(latent, error), noise, latent, huber, None).item()

    assert loss(small) == pytest.approx(small**2, rel=1e-3)
    assert loss(large) == pytest.approx(2 * 0.1 * large, rel=1e-3)


def test_edit_weights_are_where_the_edit_is():
    control = torch.zeros(1, 16, 4, 4)
    target = control.clone()
    target[..., :2, :] = 1.0
    weights = edit_weights(target, control, strength=3.0)
    assert weights.mean().item() == pytest.approx(1.0)
    ratio = weights[..., :2, :].mean() / weights[..., 2:, :].mean()
    assert ratio.item() == pytest.approx(4.0)
    torch.testing.assert_close(edit_weights(control, control, 3.0), torch.ones(1, 1, 4, 4))
