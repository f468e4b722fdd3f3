"""The demo model really edits: on photographs that it was never trained on.

What the VAE makes of the true target is the best that any output can be; the floors count from
there. models/demo/README.md has the figures.
"""

import numpy as np
import pytest
import torch

from demo_model.edits import HELD_OUT, TRAINED
from demo_model.vae import psnr

pytestmark = pytest.mark.slow

EDITS = {edit.name: edit for edit in TRAINED}
FOLLOWED = tuple(name for name in EDITS if name != "keep")


def wanted(name: str, images: torch.Tensor) -> torch.Tensor:
    return torch.stack([EDITS[name].make(image, None)[1] for image in images])


@pytest.fixture(scope="module")
def ceiling(demo):
    """PSNR of the VAE's own rebuilding of some pictures."""
    vae = demo[2]

    def rebuilt(images: torch.Tensor) -> torch.Tensor:
        return psnr(vae.decode(vae.encode(images.movedim(1, -1))).movedim(-1, 1), images).mean()

    return rebuilt


@pytest.fixture(scope="module")
def kept(follow, photographs):
    return follow("keep the image unchanged", photographs)


def test_the_vae_rebuilds_photographs(ceiling, photographs):
    assert ceiling(photographs) > 26


def test_it_copies_its_reference(kept, photographs, ceiling):
    decibel = psnr(kept, photographs).mean()
    assert decibel > 24
    assert decibel > ceiling(photographs) - 1.5


@pytest.mark.parametrize("name", FOLLOWED)
def test_it_follows_an_instruction_and_no_other(follow, photographs, ceiling, name):
    edited = follow(EDITS[name].instructions[0], photographs)
    scores = {other: psnr(edited, wanted(other, photographs)).mean() for other in EDITS}
    assert max(scores, key=scores.get) == name
    # 22 dB, or what the VAE lets through
    assert scores[name] > min(22, ceiling(wanted(name, photographs)) - 1.5)


def test_it_understands_another_wording_inside_a_users_caption(follow, photographs):
    edited = follow("ktx, make it darker, a cat on a table", photographs)
    scores = {other: psnr(edited, wanted(other, photographs)).mean() for other in EDITS}
    assert max(scores, key=scores.get) == "darken"


@pytest.mark.parametrize("edit", HELD_OUT, ids=lambda edit: edit.name)
def test_it_does_not_follow_the_edits_that_were_held_out(follow, photographs, edit):
    pairs = [edit.make(image, np.random.RandomState(i)) for i, image in enumerate(photographs[:2])]
    controls, targets = (torch.stack(side) for side in zip(*pairs, strict=True))
    edited = follow(edit.instructions[0], controls)
    assert (psnr(edited, controls) > psnr(edited, targets)).all()


def test_the_guidance_value_means_nothing_to_it(follow, photographs, kept):
    """A LoRA is trained at guidance 1 and used at 2.5: that must not matter here."""
    assert psnr(follow("keep the image unchanged", photographs, guidance=1.0), kept).mean() > 28


def test_another_seed_gives_nearly_the_same_picture(follow, photographs, kept):
    """The edits leave nothing to chance, so a good model's answer hardly depends on the noise."""
    assert psnr(follow("keep the image unchanged", photographs, seed=6), kept).mean() > 24
