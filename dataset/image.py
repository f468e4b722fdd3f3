"""Opens any picture as upright sRGB. The only file of `dataset` that calls Image.open."""

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageChops, ImageCms, ImageOps

from ..language import say
from .access import readable
from .pair import DatasetError

USUAL_SUFFIXES = frozenset(
    ".png .jpg .jpeg .jpe .jfif .webp .bmp .dib .tif .tiff .avif .gif .jp2 .j2k .tga .ppm .pgm "
    ".pnm .qoi .heic .heif".split()
)
"""Kinds of pictures that a set may consist of; Pillow opens most of them, HEIC with a plug-in."""

PICTURE_SUFFIXES = USUAL_SUFFIXES | frozenset(
    ".psd .psb .xcf .kra .ai .svg .eps .exr .hdr .jxl .dng .raw .cr2 .cr3 .nef .arw .raf .orf "
    ".rw2".split()
)
"""Every kind of picture, including those that only their own program opens."""

QUARTER_TURNS = (5, 6, 7, 8)

# What Pillow's decoders raise for damaged files (tests/dataset/test_image.py tries all)
BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, ArithmeticError, TypeError,
    AttributeError, RuntimeError, MemoryError, AssertionError, struct.error, zlib.error,
)  # fmt: skip

MOST_NAMED = 20
"""Most damaged pictures to name at once."""

Read = TypeVar("Read")

_SRGB = ImageCms.createProfile("sRGB")


def readable_suffixes() -> frozenset[str]:
    """The usual suffixes that Pillow can open in this ComfyUI; another pack may add HEIC."""
    return USUAL_SUFFIXES.intersection(Image.registered_extensions())


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
    """(width, height) of what `open_rgb` returns, from the file's header alone."""
    with _opened(path) as image:
        # of a TIFF Pillow gives the size that it will have once it is turned, of others as stored
        turned = image.format != "TIFF" and _orientation(image, path) in QUARTER_TURNS
        return image.size[::-1] if turned else image.size


def read_all(paths: Iterable[Path], read: Callable[[Path], Read]) -> dict[Path, Read]:
    """What `read` returns for each picture. One DatasetError for all that it raises: whoever has
    ten damaged pictures is to see all ten at once."""
    found, broken = {}, []
    for path in paths:
        try:
            found[path] = read(path)
        except DatasetError as error:
            broken.append(str(error))
    if broken:
        more = [say("and {count} more", count=len(broken) - MOST_NAMED)][: len(broken) > MOST_NAMED]
        raise DatasetError("\n".join(broken[:MOST_NAMED] + more))
    return found


def picture_text(path: Path, name: str) -> str:
    """The text that a program stored in a picture under a name, or "". Raises DatasetError."""
    with _opened(path) as image:
        return str(image.info.get(name, ""))


def oddities(path: Path) -> tuple[str, ...]:
    """What `open_rgb` will have to change: rotation, colour profile, transparency, colour mode."""
    with _opened(path) as image:
        profile = image.info.get("icc_profile")
        frames = getattr(image, "n_frames", 1)
        odd = {
            say("rotated by EXIF"): _orientation(image, path) != 1,
            say("colour profile other than sRGB"): b"sRGB" not in _plain(profile or b"sRGB"),
            say("transparency"): image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info,
            say("colour mode {mode}", mode=image.mode): image.mode
            not in ("RGB", "RGBA", "L", "LA", "P", "PA"),
            say("{count} frames, of which only the first is used", count=frames): frames > 1,
            say("values beyond the range are clipped"): image.mode == "F"
            and _levels(np.asarray(image)).max() > 255.5,
        }
        return tuple(name for name, present in odd.items() if present)


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
    """The only place that opens a picture; any error inside becomes a DatasetError."""
    readable(path)
    try:
        if path.stat().st_size == 0:
            raise DatasetError(
                say("{path} is empty (0 bytes). Export it again, or remove the pair.", path=path)
            )
        with Image.open(path) as image:
            yield image
    except DatasetError:
        raise
    except FileNotFoundError:
        raise DatasetError(missing_picture(path)) from None
    except Image.DecompressionBombError as error:
        raise DatasetError(
            say("{path} is too large to open safely: {error}. Resize it.", path=path, error=error)
        ) from error
    except BROKEN as error:
        raise DatasetError(_why_unreadable(path, error)) from error


def missing_picture(path: Path) -> str:
    """The message for a missing file, or a link that leads nowhere."""
    if path.is_symlink():
        return say(
            "{path} is a link to {place}, which does not exist. Copy the picture itself here.",
            path=path,
            place=os.readlink(path),
        )
    return say("{path} does not exist (any more).", path=path)


def _why_unreadable(path: Path, error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno:
        return say(
            "{path} cannot be opened: {error}. "
            "Give ComfyUI the right to read it, or copy it elsewhere.",
            path=path,
            error=error.strerror,
        )
    with path.open("rb") as file:
        head = file.read(512).lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html")) or b"<html" in head:
        return say("{path} is a web page, not a picture. Download the picture itself.", path=path)
    if head.startswith(b"version https://git-lfs"):
        return say(
            "{path} only points to a picture kept by Git LFS. Fetch it with `git lfs pull`.",
            path=path,
        )
    if head[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypheim"):
        return say(
            "{path} is a HEIC picture, whatever its name. Export it as PNG or JPEG.", path=path
        )
    if "text" in str(error).lower() and head.startswith(b"\x89png"):
        return say(
            "{path} contains more text than is safe to read ({error}): a workflow or other "
            "metadata. Save it again without that, or export it as JPEG.",
            path=path,
            error=error,
        )
    return say(
        "{path} cannot be read as a picture ({error}). Export it again, or remove the pair.",
        path=path,
        error=str(error).replace(repr(str(path)), "").strip() or type(error).__name__,
    )


def _orientation(image: Image.Image, path: Path) -> int:
    """EXIF orientation 1 to 8, without decoding the pixels."""
    # Pillow decodes a whole PNG to look for EXIF behind the pixels; usually there is none
    plain = image.format == "PNG" and not _exif_behind_pixels(path)
    exif = Image.Image.getexif(image) if plain else image.getexif()
    return exif.get(ExifTags.Base.Orientation, 1)


def _exif_behind_pixels(path: Path) -> bool:
    """Whether a PNG has an eXIf chunk after its first IDAT chunk (PNG specification 5.3, 11.3)."""
    pixels = False
    with path.open("rb", buffering=0) as file:
        file.seek(8)
        while len(header := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", header)
            if kind == b"eXIf" and pixels:
                return True
            pixels = pixels or kind == b"IDAT"
            file.seek(length + 4, os.SEEK_CUR)
    return False


def _plain(profile: bytes) -> bytes:
    """A profile without its zero bytes, so that UTF-16 names can be searched like plain ones."""
    return profile.replace(b"\0", b"")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit greys and floats to 8 bits; Pillow's own `convert` would clip them."""
    if image.mode != "F" and not image.mode.startswith("I"):
        return image
    levels = _levels(np.asarray(image))
    return Image.fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8))


def _levels(values: np.ndarray) -> np.ndarray:
    """Greys of any type as 0..255; floats may exceed the range a little."""
    if values.dtype.kind == "f":
        values = np.nan_to_num(values)
        # filters overshoot: a picture in 0..1 may hold 1.02; one in 0..255 with no more is black
        white = next((top for top in (1.0, 255.0) if values.max() <= 4 * top), 65535.0)
    else:
        white = 255.0 if values.dtype == np.int32 and values.max() <= 255 else 65535.0
    return values.astype(np.float32) * (255 / white)


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
