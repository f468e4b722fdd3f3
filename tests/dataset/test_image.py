"""Whatever mode a picture is stored in, the same colours come out. Reference: the known colour."""

import io
from pathlib import Path

import numpy as np
import pytest
from kontext.dataset.image import open_rgb
from kontext.dataset.pair import DatasetError
from PIL import Image, ImageCms

ORANGE = (255, 128, 0)


def near(image: Image.Image, colour: tuple[int, int, int], within: int = 3) -> bool:
    return bool((np.abs(np.asarray(image, int) - colour) <= within).all())


def saved(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tiff", "avif"])
def test_every_format_opens(tmp_path: Path, suffix: str):
    path = saved(tmp_path / f"戒指 ring 💍.{suffix}", Image.new("RGB", (32, 16), ORANGE))
    opened = open_rgb(path)
    assert (opened.mode, opened.size) == ("RGB", (32, 16))
    assert near(opened, ORANGE, within=6)


def test_exif_rotation_is_applied(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: show it turned a quarter clockwise
    left_half = Image.new("RGB", (64, 32))
    left_half.paste(ORANGE, (0, 0, 32, 32))
    opened = open_rgb(saved(tmp_path / "a.png", left_half, exif=exif))
    assert opened.size == (32, 64)
    assert opened.getpixel((16, 8)) == ORANGE and opened.getpixel((16, 56)) == (0, 0, 0)


def test_sixteen_bit_grey_keeps_its_tones(tmp_path: Path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, 0)
    for name in ("a.png", "a.tiff"):
        opened = np.asarray(open_rgb(saved(tmp_path / name, Image.fromarray(ramp))))
        np.testing.assert_array_equal(opened[0, :, 1], np.arange(256))


def test_float_grey(tmp_path: Path):
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None].repeat(4, 0)
    opened = np.asarray(open_rgb(saved(tmp_path / "a.tiff", Image.fromarray(ramp))))
    np.testing.assert_array_equal(opened[0, :, 1], np.arange(256))


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_grey_modes(tmp_path: Path, mode: str):
    opened = open_rgb(saved(tmp_path / "a.png", Image.new("L", (8, 8), 255).convert(mode)))
    assert near(opened, (255, 255, 255))


def test_palette(tmp_path: Path):
    opened = open_rgb(saved(tmp_path / "a.png", Image.new("RGB", (8, 8), ORANGE).quantize(4)))
    assert near(opened, ORANGE)


def test_transparency_lies_over_white(tmp_path: Path):
    half = Image.new("RGBA", (8, 8), (*ORANGE, 128))
    assert near(open_rgb(saved(tmp_path / "half.png", half)), (255, 191, 127))
    clear = Image.new("RGBA", (8, 8), (*ORANGE, 0))
    assert near(open_rgb(saved(tmp_path / "clear.webp", clear, lossless=True)), (255, 255, 255))
    indexed = Image.new("P", (8, 8), 1)
    indexed.putpalette([0, 0, 0, *ORANGE])
    assert near(open_rgb(saved(tmp_path / "p.png", indexed, transparency=1)), (255, 255, 255))


def test_cmyk(tmp_path: Path):
    magenta = Image.new("CMYK", (16, 16), (0, 255, 0, 0))
    assert near(open_rgb(saved(tmp_path / "a.jpg", magenta, quality=95)), (255, 0, 255), within=6)


def test_a_wide_gamut_profile_becomes_srgb(tmp_path: Path):
    """Reference: LittleCMS, which takes Lab straight to sRGB."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    colour = Image.new("LAB", (8, 8), (150, 170, 120))
    expected = ImageCms.profileToProfile(
        colour, lab, ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    opened = open_rgb(saved(tmp_path / "lab.tiff", colour))
    assert near(opened, expected.getpixel((0, 0)))


def test_a_gamma_one_profile_is_honoured(tmp_path: Path):
    """Linear light 0.2140 is sRGB 127.5 (IEC 61966-2-1)."""
    profile = linear_srgb_profile()
    linear = Image.new("RGB", (8, 8), (55, 55, 55))  # 55/255 = 0.2157
    opened = open_rgb(saved(tmp_path / "linear.png", linear, icc_profile=profile))
    assert near(opened, (128, 128, 128), within=2)


def linear_srgb_profile() -> bytes:
    """The sRGB profile with its three tone curves replaced by the identity."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(profile[128:132], "big")
    for entry in range(count):
        start = 132 + 12 * entry
        if profile[start : start + 4] in (b"rTRC", b"gTRC", b"bTRC"):
            offset = int.from_bytes(profile[start + 4 : start + 8], "big")
            profile[offset : offset + 12] = b"curv" + bytes(8)  # a curve of no entries is identity
    ImageCms.ImageCmsProfile(io.BytesIO(bytes(profile)))
    return bytes(profile)


def test_a_damaged_profile_leaves_the_values(tmp_path: Path):
    picture = Image.new("RGB", (8, 8), ORANGE)
    assert near(open_rgb(saved(tmp_path / "a.png", picture, icc_profile=b"nonsense")), ORANGE)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "empty"), (b"not a picture", "cannot be read"), (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "")],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes, says: str):
    path = tmp_path / "ring 07.png"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"ring 07\.png.*{says}"):
        open_rgb(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tiff", "avif"])
def test_a_half_copied_file_is_named(tmp_path: Path, suffix: str):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = saved(tmp_path / f"ring.{suffix}", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DatasetError, match=r"ring\."):
        open_rgb(path)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(DatasetError, match=r"gone\.png does not exist"):
        open_rgb(tmp_path / "gone.png")
