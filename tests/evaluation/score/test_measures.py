"""Picture measures against scikit-image and by their meaning on real photographs."""

import numpy as np
import pytest
import torch
from kontext.evaluation.score.measures import (
    direction,
    drift,
    edit_done,
    memorised,
    preserved,
    psnr,
    score_picture,
    thumbnail,
)
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from skimage.transform import resize


def photograph(name):
    pixels = resize(getattr(data, name)(), (96, 128), anti_aliasing=True)
    return torch.from_numpy(pixels.astype(np.float32)).movedim(-1, 0)


@pytest.fixture(scope="module")
def pair():
    """A control and its target: the left half as a negative."""
    control = photograph("astronaut")
    target = control.clone()
    target[:, :, :64] = 1 - control[:, :, :64]
    return control, target


def test_psnr_and_ssim_are_scikit_images(pair):
    control, target = pair
    noisy = (target + 0.05 * torch.randn(target.shape, generator=torch.Generator())).clamp(0, 1)
    found = score_picture(noisy, control, target, [], thumbnail)
    ours, theirs = noisy.numpy().astype(float), target.numpy().astype(float)
    reference = peak_signal_noise_ratio(theirs, ours, data_range=1)
    assert found.psnr == pytest.approx(reference, abs=0.01)
    reference = structural_similarity(
        theirs,
        ours,
        channel_axis=0,
        data_range=1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert found.ssim == pytest.approx(reference, abs=0.002)


def test_the_control_returned_is_no_edit_and_the_target_is_all_of_it(pair):
    control, target = pair
    assert edit_done(control, control, target) == 0
    assert edit_done(target, control, target) == pytest.approx(1)
    assert edit_done(control.lerp(target, 0.3), control, target) == pytest.approx(0.3)
    assert edit_done(2 * target - control, control, target) == pytest.approx(2)


def test_direction_tells_the_right_edit_from_another(pair):
    control, target = pair

    def towards(out):
        return direction(thumbnail(out), thumbnail(control), thumbnail(target))

    assert towards(target) == pytest.approx(1)
    assert towards(control.lerp(target, 0.3)) == pytest.approx(1, abs=1e-3)
    assert towards(control) == 0
    assert towards(2 * control - target) == pytest.approx(-1)
    assert abs(towards(control.flip(-1))) < 0.4
    assert np.isnan(direction(thumbnail(target), thumbnail(control), thumbnail(control)))


def test_preservation_looks_only_where_the_target_leaves_the_control_alone(pair):
    control, target = pair
    spoilt_edit, spoilt_rest = target.clone(), target.clone()
    spoilt_edit[:, :, :60] = 0
    spoilt_rest[:, :, 70:] += 0.1
    assert preserved(target, control, target) > 60
    assert preserved(spoilt_edit, control, target) > 25 > preserved(spoilt_rest, control, target)
    assert np.isnan(preserved(target, control, 1 - control))


def test_a_training_target_returned_is_memorised(pair):
    control, target = pair
    training = [photograph("chelsea"), photograph("coffee")]
    assert memorised(training[1], target, training) == 1
    assert memorised(target, target, training) == 0
    assert memorised(control.lerp(target, 0.5), target, training) == 0


def test_drift_is_the_root_mean_square(pair):
    control, _ = pair
    assert drift(control + 0.1, control) == pytest.approx(0.1)
    assert psnr(control + 0.1, control) == pytest.approx(20)
