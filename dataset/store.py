"""Writing pairs to disk, whole or not at all."""

import hashlib
import io
import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..files import write_atomically
from ..language import say
from .pair import DatasetError, Pair


def write_pair(
    folder: Path,
    stem: str,
    controls: Sequence[Image.Image],
    target: Image.Image,
    caption: str,
    overwrite: bool = False,
    mask: Image.Image | None = None,
) -> Pair:
    """Write control/<stem>.png, target/<stem>.png and, unless empty, target/<stem>.txt.

    Further controls go to control_2, …, a mask to mask/<stem>.png. A file that is there already
    with this content is left alone; one with other content is replaced only with `overwrite`, else
    DatasetError is raised before anything is written.
    """
    require_stem(stem)
    names = ["control", *(f"control_{i}" for i in range(2, len(controls) + 1))][: len(controls)]
    paths = [folder / name / f"{stem}.png" for name in (*names, "target")]
    contents = {path: _png(im) for path, im in zip(paths, (*controls, target), strict=True)}
    masked = folder / "mask" / f"{stem}.png"
    if mask:
        contents[masked] = _png(mask)
    text = paths[-1].with_name(f"{stem}.txt")
    if caption or text.exists():
        contents[text] = caption.encode("utf-8")
    changed = {p: c for p, c in contents.items() if not p.exists() or p.read_bytes() != c}
    taken = [path for path in changed if path.exists()]
    if taken and not overwrite:
        raise DatasetError(
            say(
                "{files} already exists with other content. Choose another folder or name, or "
                "turn on `overwrite`.",
                files=say(", ").join(map(str, taken)),
            )
        )
    for path, content in changed.items():
        _write(path, content)
    return Pair(stem, tuple(paths[:-1]), paths[-1], caption, mask=masked if mask else None)


def require_stem(stem: str) -> None:
    """Raise DatasetError for a name that is no file name on every system."""
    reserved = {"con", "prn", "aux", "nul"} | {f"{d}{i}" for d in ("com", "lpt") for i in range(10)}
    bad = sorted({letter for letter in stem if letter in '<>:"/\\|?*' or ord(letter) < 32})
    if bad or not stem or stem[0] == "." or stem[-1] in ". " or stem.lower() in reserved:
        raise DatasetError(
            say(
                "“{stem}” is not a usable file name: it holds {letters}. Choose another stem.",
                stem=stem,
                letters=" ".join(map(repr, bad)),
            )
            if bad
            else say(
                "“{stem}” is not a usable file name on every system. Choose another stem.",
                stem=stem,
            )
        )


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def write_set(
    controls: Sequence[Image.Image],
    targets: Sequence[Image.Image],
    captions: Sequence[str],
    folder: Path,
) -> tuple[Pair, ...]:
    """Pairs `image_0001`, … in a folder named by their content; equal ones are not written again.

    `captions` are one for all pairs, or one for each.
    """
    if len(controls) != len(targets):
        raise DatasetError(
            say(
                "{controls} control pictures, but {targets} targets. Every control needs its "
                "target, in the same order.",
                controls=len(controls),
                targets=len(targets),
            )
        )
    if len(captions) not in (1, len(targets)):
        raise DatasetError(
            say(
                "{captions} captions for {pairs} pairs. Give one for all, or one for each.",
                captions=len(captions),
                pairs=len(targets),
            )
        )
    texts = list(captions) * len(targets) if len(captions) == 1 else list(captions)
    content = hashlib.sha256()
    for image in (*controls, *targets):
        content.update(repr(image.size).encode() + image.tobytes())
    own = folder / content.hexdigest()[:16]
    pairs = []
    for number, (control, target, text) in enumerate(zip(controls, targets, texts, strict=True), 1):
        name = f"image_{number:04d}"
        paths = own / "control" / f"{name}.png", own / "target" / f"{name}.png"
        for image, path in zip((control, target), paths, strict=True):
            if not path.exists():
                _write(path, _png(image))
                os.utime(path, (0, 0))  # named by content: when it was written means nothing
        pairs.append(Pair(name, paths[:1], paths[1], text.strip()))
    return tuple(pairs)


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise DatasetError(
            say(
                "{path} could not be written: {reason}. Free disk space, or choose a folder that "
                "can be written.",
                path=path,
                reason=error.strerror or error,
            )
        ) from error
