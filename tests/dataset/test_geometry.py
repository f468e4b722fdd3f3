"""Both sides of a pair move together. Reference: a smooth pattern known at every point."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kontext.dataset.geometry import bucket_size, centred_box, crop_alike
from PIL import Image

sides = st.integers(16, 6000)


def pattern(columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Grey values of a fixed smooth picture at relative positions in 0..1."""
    x, y = np.meshgrid(columns, rows)
    return 127 + 50 * np.sin(9 * x + 2 * y) + 50 * np.cos(7 * y - 3 * x)


def photograph(size: tuple[int, int]) -> Image.Image:
    """The picture as a camera of `size` would take it (values at pixel centres)."""
    columns, rows = ((np.arange(side) + 0.5) / side for side in size)
    return Image.fromarray(pattern(columns, rows).astype(np.float32))


@given(sides, sides, st.sampled_from([512**2, 768**2, 1024**2]), st.sampled_from([16, 32, 64]))
def test_a_bucket_fits_and_keeps_the_shape(width, height, pixels, multiple):
    bucket = bucket_size(width, height, pixels, multiple)
    assert all(side > 0 and side % multiple == 0 for side in bucket)
    assert bucket[0] * bucket[1] <= pixels
    if max(width / height, height / width) < 4:
        assert bucket[0] * bucket[1] > 0.7 * pixels
        stretch = (bucket[0] / bucket[1]) / (width / height)
        assert abs(np.log(stretch)) <= multiple / min(bucket)


@pytest.mark.parametrize(
    ("picture", "pixels", "bucket"),
    [
        ((400, 400), 512**2, (512, 512)),
        ((1200, 800), 1024**2, (1248, 832)),
        ((800, 1200), 1024**2, (832, 1248)),
        ((1024, 1024), 1024**2, (1024, 1024)),
    ],
)
def test_common_buckets(picture, pixels, bucket):
    assert bucket_size(*picture, pixels) == bucket


def test_buckets_mirror():
    assert bucket_size(700, 500, 512**2) == bucket_size(500, 700, 512**2)[::-1]


@settings(max_examples=40, deadline=None)
@given(
    base=st.tuples(st.integers(48, 160), st.integers(48, 160)),
    scale=st.integers(2, 4),
    out=st.tuples(st.integers(3, 8), st.integers(3, 8)),
)
def test_both_sides_show_the_same_part(base, scale, out):
    """Control `scale` times larger than the target: every output pixel is where it should be."""
    size = (out[0] * 16, out[1] * 16)
    images = [photograph(base), photograph((base[0] * scale, base[1] * scale))]
    target, control = (np.asarray(image) for image in crop_alike(images, [size, size]))
    left, top, right, bottom = centred_box(base, size[0] / size[1])
    expected = pattern(
        left + (right - left) * (np.arange(size[0]) + 0.5) / size[0],
        top + (bottom - top) * (np.arange(size[1]) + 0.5) / size[1],
    )
    inner = slice(8, -8)  # Lanczos has no neighbours beyond the frame
    for found in (target, control):
        assert np.abs(found - expected)[inner, inner].max() < 2.5


@settings(max_examples=15, deadline=None)
@given(scale=st.sampled_from([0.37, 0.5, 0.75, 1.3, 2.0]), aspect=st.floats(0.6, 1.6))
def test_no_side_moves_by_a_tenth_of_a_pixel(scale, aspect):
    """Reference: scikit-image's sub-pixel phase correlation on a real photograph."""
    from skimage import data
    from skimage.registration import phase_cross_correlation

    photo = Image.fromarray(data.astronaut()).convert("L")
    other = photo.resize((round(512 * scale),) * 2, Image.Resampling.LANCZOS)
    size = (round(256 * min(1, aspect)), round(256 / max(1, aspect)))
    one, two = (np.asarray(i, float) for i in crop_alike([photo, other], [size, size]))
    shift, *_ = phase_cross_correlation(one, two, upsample_factor=50)
    assert np.abs(shift).max() < 0.1


def test_a_picture_of_its_own_size_is_untouched():
    photo = photograph((64, 48)).convert("L").convert("RGB")
    (same,) = crop_alike([photo], [(64, 48)])
    assert same.tobytes() == photo.tobytes()


def test_a_reference_of_another_shape_is_cropped_not_stretched():
    """A circle stays round."""
    rows, columns = np.mgrid[:100, :300]
    disc = Image.fromarray((np.hypot(rows - 50, columns - 150) < 30).astype(np.uint8) * 255)
    square = Image.new("L", (100, 100))
    _, cropped = crop_alike([square, disc], [(64, 64), (64, 64)])
    round_disc = np.asarray(cropped) > 127
    assert abs(int(round_disc.any(0).sum()) - int(round_disc.any(1).sum())) <= 1
