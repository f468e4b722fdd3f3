"""Whatever mode a picture is stored in, the same colours come out. Reference: the known colour."""

import io
from pathlib import Path

import numpy as np
import pytest
from kontext.dataset.image import oddities, open_rgb, picture_size, thumbnail
from kontext.dataset.pair import DatasetError
from PIL import Image, ImageCms, PngImagePlugin

ORANGE = (255, 128, 0)


def near(image: Image.Image, colour: tuple[int, int, int], within: int = 3) -> bool:
    return bool((np.abs(np.asarray(image, int) - colour) <= within).all())


def saved(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    "suffix",
    ["png", "jpg", "jfif", "jpe", "webp", "bmp", "dib", "tiff", "avif", "gif", "tga", "ppm", "jp2"],
)
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


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_pixels(tmp_path: Path, suffix: str, orientation: int):
    """EXIF 2.32: 5 to 8 are a quarter turn. The bright corner is where the orientation says."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    corner = Image.new("RGB", (64, 32))
    corner.paste("white", (0, 0, 16, 16))
    path = saved(tmp_path / f"a.{suffix}", corner, exif=exif, quality=95)
    opened = open_rgb(path)
    assert picture_size(path) == opened.size == ((32, 64) if orientation > 4 else (64, 32))
    assert thumbnail(path, 1000).size == opened.size
    right, bottom = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    place = (opened.width - 4 if right else 4, opened.height - 4 if bottom else 4)
    assert min(opened.getpixel(place)) > 200
    assert max(opened.getpixel((opened.width // 2, opened.height // 2))) < 60


def test_exif_behind_the_pixels_of_a_png(tmp_path: Path):
    """PNG 11.3: an eXIf chunk may follow IDAT; exiftool writes it there."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "a.png", Image.new("RGB", (64, 32)), exif=exif)
    content = path.read_bytes()
    start = content.index(b"eXIf") - 4
    length = int.from_bytes(content[start : start + 4], "big") + 12
    chunk, end = content[start : start + length], content.index(b"IEND") - 4
    path.write_bytes(content[:start] + content[start + length : end] + chunk + content[end:])
    assert picture_size(path) == open_rgb(path).size == (32, 64)
    assert "rotated by EXIF" in oddities(path)


@pytest.mark.parametrize(("top", "white"), [(1.02, 1.0), (300.0, 255.0), (65535.0, 65535.0)])
def test_floats_beyond_their_range_are_clipped(tmp_path: Path, top: float, white: float):
    values = np.full((4, 8), white / 2, np.float32)
    values[0, 0] = top
    values[0, 1] = np.nan
    path = saved(tmp_path / "a.tiff", Image.fromarray(values))
    opened = np.asarray(open_rgb(path))
    assert opened[0, 0, 0] == 255 and opened[0, 1, 0] == 0 and abs(int(opened[2, 2, 0]) - 128) <= 1
    assert ("values beyond the range are clipped" in oddities(path)) == (top > white)


def test_an_animation_is_its_first_frame(tmp_path: Path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (ORANGE, "black", "blue")]
    path = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert near(open_rgb(path), ORANGE)
    assert "3 frames, of which only the first is used" in oddities(path)


def png_with_text(path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "x" * 2_000_000, zip=True)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (png_with_text, "more text than is safe .* without that, or export"),
        (lambda path: path.write_text("<!DOCTYPE html><html>no such file"), "is a web page"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), "Git LFS"),
        (lambda path: path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(40)), "is a HEIC picture"),
        (lambda path: path.symlink_to(path.parent / "gone.png"), r"link to .*gone\.png"),
        (lambda path: path.mkdir(), r"cannot be opened|cannot be read"),
    ],
)
@pytest.mark.parametrize("reader", [open_rgb, picture_size, oddities])
def test_what_is_no_picture_is_named_with_its_remedy(tmp_path: Path, write, says: str, reader):
    path = tmp_path / "ring 07.png"
    write(path)
    with pytest.raises(DatasetError, match=rf"ring 07\.png.*{says}"):
        reader(path)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tiff", "avif", "gif", "jp2"])
def test_no_damage_breaks_the_opener(tmp_path: Path, suffix: str):
    """Any bytes changed, any tail lost: opened, or refused with a message of ours."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    noise = Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8))
    extra = {} if suffix in ("bmp", "gif", "jp2") else {"exif": exif}
    whole = saved(tmp_path / f"a.{suffix}", noise, **extra).read_bytes()
    path = tmp_path / f"damaged.{suffix}"
    for _ in range(120):
        content = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 6)):
            content[place] = rng.integers(256)
        path.write_bytes(content[: len(content) - int(rng.integers(0, len(content) // 4))])
        for reader in (open_rgb, picture_size, oddities):
            try:
                reader(path)
            except DatasetError as error:
                assert str(path) in str(error)


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
