"""Measures of a picture, and of a control against its target. All on luminance in 0..255.

Methods and measured levels are in docs/guide/checks.md.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import fft, ndimage

SIDE = 1024
"""Pictures are measured at no more than this on the longest side: the scale of training."""

Grey = np.ndarray


@dataclass(frozen=True)
class Offset:
    """How the target lies against the control: pixels down and right, zoom (1 = none).

    `peak` is the correlation peak over its noise; unrelated pictures stay below 18.
    """

    down: float
    right: float
    peak: float
    zoom: float = 1.0

    @property
    def distance(self) -> float:
        return float(np.hypot(self.down, self.right))


def fitted(image: Image.Image, side: int = SIDE) -> Image.Image:
    """The picture with no side longer than `side`; never enlarged."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


def grey(image: Image.Image) -> Grey:
    return np.asarray(image.convert("L"), np.float32)


def sharpness(image: Grey) -> float:
    """Variance of the Laplacian in the sharpest twentieth of the picture, in 32-pixel tiles.

    Of tiles, not of the whole: a ring on a white ground is sharp where the ring is.
    """
    return float(np.percentile(_tiles(ndimage.laplace(image)).var(axis=1), 95) + 1e-3)


def noise(image: Grey) -> float:
    """Standard deviation of the noise, from the calmest tenth of the tiles (Immerkær 1996)."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    residue = np.abs(_tiles(ndimage.convolve(image, kernel))).mean(axis=1)
    return float(np.percentile(residue, 10) * np.sqrt(np.pi / 2) / 6)


def blockiness(image: Grey) -> float:
    """Steps across an 8-pixel grid over steps elsewhere; 1 without JPEG blocks.

    One grey level is added to both, so that flat pictures do not divide nothing by nothing.
    """
    across, down = np.abs(np.diff(image, axis=1)).mean(0), np.abs(np.diff(image, axis=0)).mean(1)
    return (_grid(across) + _grid(down)) / 2


def offset(control: Grey, target: Grey) -> Offset:
    """Shift and zoom by phase correlation of gradients (Kuglin & Hines 1975).

    Both pictures must have one size. A zoom is the slope of the shifts of nine tiles over their
    positions; it is believed if undoing it makes the pictures agree clearly better.
    """
    edges = _edges(control)
    plain = Offset(*_shift(edges, _edges(target)))
    zoom = 1 + _tile_slope(edges, _edges(target))
    if abs(zoom - 1) * max(control.shape) / 2 < 1 or not 0.8 < zoom < 1.25:
        return plain
    # affine_transform samples the target at centre + (place - centre) * zoom
    centre = (np.array(target.shape) - 1) / 2
    undone = ndimage.affine_transform(
        target, np.diag([zoom, zoom]), centre * (1 - zoom), order=1, mode="nearest"
    )
    down, right, peak = _shift(edges, _edges(undone))
    return Offset(down, right, peak, zoom) if peak > 1.3 * plain.peak else plain


def changed(control: Image.Image, target: Image.Image) -> np.ndarray:
    """[H, W] largest channel difference in 0..255, of 5-pixel means: compression hardly shows."""
    first, second = (np.asarray(image, np.float32) for image in (control, target))
    return np.abs(ndimage.uniform_filter(first - second, (5, 5, 1))).max(-1)


def likeness(control: Grey, target: Grey) -> float:
    """Correlation of the coarse luminance of both, at 32 x 32."""
    small = [
        np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BOX)).ravel()
        for image in (control, target)
    ]
    if min(np.std(values) for values in small) < 1e-3:
        return 0.0
    return float(np.corrcoef(small[0], small[1])[0, 1])


def _tiles(values: np.ndarray, side: int = 32) -> np.ndarray:
    """[tiles, pixels] of the whole tiles; a picture smaller than a tile is one."""
    height, width = (max(1, length // side) for length in values.shape)
    rows, columns = min(side, values.shape[0]), min(side, values.shape[1])
    whole = values[: height * rows, : width * columns]
    return whole.reshape(height, rows, width, columns).swapaxes(1, 2).reshape(height * width, -1)


def _grid(steps: np.ndarray) -> float:
    whole = steps[: len(steps) // 8 * 8].reshape(-1, 8).mean(0)
    strongest = int(whole.argmax())
    return float((whole[strongest] + 1) / (np.median(np.delete(whole, strongest)) + 1))


def _edges(image: Grey) -> np.ndarray:
    smooth = ndimage.gaussian_filter(image, 1)
    return np.hypot(ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1))


def _shift(control: np.ndarray, target: np.ndarray) -> tuple[float, float, float]:
    """Down, right, peak over noise, of one window."""
    window = np.outer(np.hanning(control.shape[0]), np.hanning(control.shape[1])).astype(np.float32)
    shape = tuple(fft.next_fast_len(length, real=True) for length in control.shape)
    first, second = (fft.rfft2((e - e.mean()) * window, shape) for e in (control, target))
    cross = second * first.conj()
    plane = fft.irfft2(cross / np.maximum(np.abs(cross), 1e-9), shape)
    row, column = np.unravel_index(int(plane.argmax()), plane.shape)
    peak = float(plane[row, column] / max(float(plane.std()), 1e-12))
    down = _signed(row + _vertex(plane[:, column], int(row)), shape[0])
    right = _signed(column + _vertex(plane[row], int(column)), shape[1])
    return down, right, peak


def _signed(place: float, length: int) -> float:
    return float(place - length if place > length / 2 else place)


def _vertex(line: np.ndarray, at: int) -> float:
    """Sub-pixel place of a peak, by the parabola through it and its neighbours."""
    before, top, after = line[at - 1], line[at], line[(at + 1) % len(line)]
    bend = before - 2 * top + after
    return float((before - after) / (2 * bend)) if bend < 0 else 0.0


def _tile_slope(control: np.ndarray, target: np.ndarray) -> float:
    """How fast the shift grows over the picture: 0.02 when the target is 2 % larger."""
    height, width = (length // 3 for length in control.shape)
    places, shifts = [], []
    for i, j in np.ndindex(3, 3):
        part = np.s_[i * height : (i + 1) * height, j * width : (j + 1) * width]
        down, right, peak = _shift(control[part], target[part])
        if peak > 10:
            places.append(((i - 1) * height, (j - 1) * width))
            shifts.append((down, right))
    if len(places) < 4:
        return 0.0
    at, moved = np.array(places, float), np.array(shifts, float)
    slopes = [_slope(at[:, axis], moved[:, axis]) for axis in (0, 1)]
    return float(np.mean([slope for slope in slopes if slope is not None] or [0.0]))


def _slope(places: np.ndarray, shifts: np.ndarray) -> float | None:
    """Theil–Sen slope: right even when the edit has misled some tiles."""
    one, other = np.triu_indices(len(places), 1)
    apart = places[other] != places[one]
    if not apart.any():
        return None
    one, other = one[apart], other[apart]
    return float(np.median((shifts[other] - shifts[one]) / (places[other] - places[one])))
