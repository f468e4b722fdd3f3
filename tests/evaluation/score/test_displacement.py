"""Known shifts, zooms and borders of real photographs are measured within the bounds stated."""

import numpy as np
import pytest
from kontext.dataset.check_pair import SHIFTED
from kontext.evaluation.score.displacement import (
    Displacement,
    border_widths,
    displacement,
    typical,
)
from PIL import Image, ImageEnhance, ImageOps
from skimage import data

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")
SIDE = 384


@pytest.fixture(params=PHOTOS)
def photo(request) -> Image.Image:
    return ImageOps.fit(Image.fromarray(getattr(data, request.param)()), (480, 480))


def seen(photo: Image.Image, down=0.0, right=0.0, zoom=1.0) -> Image.Image:
    """The middle of the photograph as a result that moved and grew things would show it."""
    centre, half = 240, SIDE / 2 / zoom
    box = (centre - right - half, centre - down - half, centre - right + half, centre - down + half)
    return photo.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box)


def edited(picture: Image.Image) -> Image.Image:
    """An edit that keeps things in place: colours and contrast."""
    return ImageEnhance.Contrast(ImageEnhance.Color(picture).enhance(0.3)).enhance(1.3)


@pytest.mark.parametrize("down, right", [(0, 0), (2, 0), (-3, 5), (1.5, -2.5), (12, 9)])
def test_a_known_shift_is_measured_to_half_a_pixel(photo, down, right):
    control, result = seen(photo), edited(seen(photo, down, right))
    found = displacement(result, control, edited(control))
    assert found.shift == pytest.approx(np.hypot(down, right), abs=0.5)
    assert found.zoom == pytest.approx(1, abs=0.002)
    words = " ".join(found.remarks(Displacement(0.1, 1.0, 0)))
    assert ("shifts the picture by" in words) == (np.hypot(down, right) >= SHIFTED)
    assert "zooms" not in words and "border" not in words


@pytest.mark.parametrize("zoom", [0.95, 0.98, 1.02, 1.05])
def test_a_known_zoom_is_measured_to_a_tenth_of_it(photo, zoom):
    control, result = seen(photo), edited(seen(photo, zoom=zoom))
    found = displacement(result, control, edited(control))
    assert found.zoom - 1 == pytest.approx(zoom - 1, rel=0.1)
    (words,) = found.remarks(Displacement(0.1, 1.0, 0))
    assert f"zooms the picture by {'+' if zoom > 1 else '-'}" in words


@pytest.mark.parametrize("width", [5, 16])
@pytest.mark.parametrize("colour", ["white", "black", "#8a7f70"])
def test_a_border_that_grew_is_measured(photo, width, colour):
    control = seen(photo)
    result = ImageOps.expand(edited(control).crop((width, width, SIDE - width, SIDE - width)),
                             width, colour)  # fmt: skip
    found = displacement(result, control, edited(control))
    assert found.border == pytest.approx(width, abs=1)
    assert any("a border of" in words for words in found.remarks(Displacement(0, 1, 0)))
    at_home = displacement(result, result, result)  # a border that was there, or is wanted
    assert at_home.border == 0 and displacement(result, control, result).border == 0


def test_a_plain_ground_is_no_border_by_itself():
    """Jewellery on white: control and result are white around the ring alike."""
    picture = Image.new("RGB", (128, 128), "white")
    picture.paste("goldenrod", (40, 50, 90, 80))
    assert displacement(picture, picture, picture).border == 0
    np.testing.assert_array_equal(
        border_widths(np.asarray(picture.convert("L"), np.float32)), [50, 48, 40, 38]
    )


def test_pictures_of_different_things_are_not_compared(photo):
    other = ImageOps.fit(Image.fromarray(data.page()).convert("RGB"), (SIDE, SIDE))
    found = displacement(other, seen(photo), seen(photo))
    assert np.isnan(found.shift) and found.remarks(Displacement(0, 1, 0)) == []


def test_the_typical_one_is_the_median_of_those_that_could_be_compared():
    nothing = Displacement(np.nan, np.nan, 0)
    each = [Displacement(2, 1.01, 0), Displacement(4, 1.03, 6), Displacement(3, 1.0, 0), nothing]
    assert typical(each) == Displacement(3, 1.01, 0)
    assert np.isnan(typical([nothing]).shift)
