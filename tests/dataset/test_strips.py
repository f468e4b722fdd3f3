import numpy as np
from kontext.dataset.strips import pasted
from PIL import Image


def test_every_pixel_is_where_numpy_would_put_it():
    random = np.random.default_rng(0)
    arrays = [random.integers(0, 255, (4, width, 3), np.uint8) for width in (3, 5, 2)]
    row = pasted([Image.fromarray(each) for each in arrays])
    np.testing.assert_array_equal(np.asarray(row), np.concatenate(arrays, axis=1))
    turned = [each.swapaxes(0, 1).copy() for each in arrays]
    column = pasted([Image.fromarray(each) for each in turned], down=True)
    np.testing.assert_array_equal(np.asarray(column), np.concatenate(turned))


def test_the_ground_shows_where_a_picture_is_shorter():
    row = pasted([Image.new("RGB", (2, 4), "red"), Image.new("RGB", (2, 2), "red")], ground="white")
    assert row.size == (4, 4) and row.getpixel((3, 3)) == (255, 255, 255)
