"""Opening any picture a user may have as upright sRGB."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageChops, ImageCms, ImageOps

from .access import readable
from .pair import DatasetError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif"})

_SRGB = ImageCms.createProfile("sRGB")


def open_rgb(path: Path) -> Image.Image:
    """The first frame as 8-bit RGB: upright, in sRGB, transparency over white.

    Raises DatasetError naming the file if it is missing, empty or damaged.
    """
    with _opened(path) as image:
        return to_rgb(image)


def open_grey(path: Path) -> Image.Image:
    """The first frame as 8-bit grey, upright, transparency over black: as a mask is painted."""
    with _opened(path) as image:
        upright = _eight_bits(ImageOps.exif_transpose(image))
        if "transparency" not in upright.info and upright.mode not in ("RGBA", "LA", "PA"):
            return upright.convert("L")
        painted = upright.convert("RGBA")
        return ImageChops.multiply(painted.convert("L"), painted.getchannel("A"))


def thumbnail(path: Path, side: int) -> Image.Image:
    """The picture as by `open_rgb`, no side longer than `side`; JPEGs are decoded small."""
    with _opened(path) as image:
        image.draft(None, (2 * side, 2 * side))
        small = to_rgb(image)
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        return small


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) as shown upright, from the file's header alone."""
    with _opened(path) as image:
        # A PNG may hold its EXIF after the pixels; Pillow would decode them to look for it.
        exif = Image.Image.getexif(image) if image.format == "PNG" else image.getexif()
        turned = exif.get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
        return image.size[::-1] if turned else image.size


def oddities(path: Path) -> tuple[str, ...]:
    """What `open_rgb` will have to change: rotation, colour profile, transparency, colour mode."""
    with _opened(path) as image:
        exif = Image.Image.getexif(image) if image.format == "PNG" else image.getexif()
        profile = image.info.get("icc_profile")
        found = {
            "rotated by EXIF": exif.get(ExifTags.Base.Orientation, 1) != 1,
            "colour profile other than sRGB": b"sRGB" not in _plain(profile or b"sRGB"),
            "transparency": image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info,
            f"colour mode {image.mode}": image.mode not in ("RGB", "RGBA", "L", "LA", "P", "PA"),
        }
        return tuple(name for name, present in found.items() if present)


def _plain(profile: bytes) -> bytes:
    """A profile without its zero bytes, so that UTF-16 names can be searched like plain ones."""
    return profile.replace(b"\0", b"")


def to_rgb(image: Image.Image) -> Image.Image:
    """A decoded picture of any mode as upright 8-bit sRGB, transparency over white."""
    upright = _eight_bits(ImageOps.exif_transpose(image))
    if "transparency" in upright.info or upright.mode in ("PA", "LA", "La", "RGBa"):
        upright = upright.convert("RGBA")
    if upright.mode == "P":
        upright = upright.convert("RGB")
    alpha = upright.getchannel("A") if upright.mode == "RGBA" else None
    colour = _to_srgb(upright.convert("RGB") if alpha else upright, image.info.get("icc_profile"))
    if alpha is None:
        return colour
    return Image.composite(colour, Image.new("RGB", colour.size, "white"), alpha)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    readable(path)
    try:
        if path.stat().st_size == 0:
            raise DatasetError(f"{path} is empty (0 bytes). Export it again, or remove the pair.")
        with Image.open(path) as image:
            yield image
    except FileNotFoundError:
        raise DatasetError(f"{path} does not exist (any more).") from None
    except DatasetError:
        raise
    except Image.DecompressionBombError as error:
        raise DatasetError(f"{path} is too large to open safely: {error}. Resize it.") from error
    # Pillow's decoders report damage with whatever they stumble over.
    except (OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError) as error:
        raise DatasetError(
            f"{path} cannot be read as a picture ({error}). Export it again, or remove the pair."
        ) from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit greys and floats to 8 bits; Pillow's own `convert` would clip them."""
    if image.mode == "F":
        values = np.asarray(image)
        scale = 255.0 if values.max() <= 1.0 else 1.0
    elif image.mode.startswith("I"):
        values = np.asarray(image, np.float32)
        scale = 1 / 257 if image.mode != "I" or values.max() > 255 else 1.0
    else:
        return image
    return Image.fromarray(np.clip(np.rint(values * scale), 0, 255).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if image.mode == "LAB":
        return _transformed(image, ImageCms.createProfile("LAB"))
    if profile and image.mode in ("RGB", "L", "CMYK"):
        try:
            return _transformed(image, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
        except (ImageCms.PyCMSError, OSError):
            pass  # a damaged or foreign profile: the plain values, as every viewer shows them
    return image.convert("RGB")


def _transformed(image: Image.Image, source: "ImageCms._CmsProfileCompatible") -> Image.Image:
    return ImageCms.buildTransform(source, _SRGB, image.mode, "RGB").apply(image)
