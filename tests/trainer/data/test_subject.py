"""What is shown to the model when a LoRA is tried, against what it was trained on."""

import numpy as np
import pytest
from kontext.dataset.pair import Pair
from kontext.dataset.pixels import to_image
from kontext.trainer.data.sizes import Sizes
from kontext.trainer.data.subject import subject_of_image, subject_of_pair


def picture(width: int, height: int):
    return to_image(np.random.default_rng(0).random((height, width, 3)))


@pytest.mark.parametrize(
    ("sizes", "size", "fitted"),
    [
        (Sizes(64), (256, 256), ((64, 64), (64, 64))),
        (Sizes(64), (48, 48), ((48, 48), (48, 48))),  # never enlarged
        (Sizes(64, 32), (256, 256), ((64, 64), (32, 32))),
        (Sizes(64, 128), (96, 96), ((64, 64), (96, 96))),  # nor is a reference
        (Sizes(64, 0, 32), (256, 256), ((64, 64), (64, 64))),
        (Sizes(64, 0, 16, True), (512, 128), ((64, 64), (64, 64))),
        (Sizes(64), (512, 128), ((128, 32), (128, 32))),
    ],
)
def test_sizes_follow_from_area_and_shape(sizes, size, fitted):
    assert sizes.fit(size) == fitted


def test_a_pair_is_shown_as_it_is_trained_on(tmp_path):
    paths = [tmp_path / name for name in ("target.png", "control.png")]
    for path in paths:
        picture(256, 256).save(path)
    subject = subject_of_pair(Pair("ring", (paths[1],), paths[0], "polish"), Sizes(64, 32))
    assert (subject.size, subject.target.size) == ((64, 64), (64, 64))
    assert [control.size for control in subject.controls] == [(32, 32)]
    assert [whole.size for whole in subject.whole] == [(256, 256)]


def test_a_picture_without_a_result_has_references_of_their_own_size():
    subject = subject_of_image(picture(256, 256), "picture 1", Sizes(64, 32), "polish")
    assert subject.target is None
    assert (subject.size, subject.controls[0].size) == ((64, 64), (32, 32))
