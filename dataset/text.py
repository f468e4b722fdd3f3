"""Reading captions and tables, whatever editor wrote them."""

import codecs
from collections.abc import Iterable
from pathlib import Path

from .access import readable
from .pair import DatasetError

_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_text(path: Path) -> str:
    """Text in UTF-8, or in UTF-16 with a byte order mark. Raises UnicodeDecodeError otherwise."""
    content = readable(path).read_bytes()
    encoding = next((name for bom, name in _BOMS.items() if content.startswith(bom)), "utf-8")
    return content.decode(encoding)


def read_captions(paths: Iterable[Path]) -> dict[Path, str]:
    """Captions by file, stripped. Raises DatasetError listing every file in another encoding."""
    captions: dict[Path, str] = {}
    foreign: list[Path] = []
    for path in paths:
        try:
            captions[path] = read_text(path).strip()
        except UnicodeDecodeError:
            foreign.append(path)
    if foreign:
        raise DatasetError(
            f"{len(foreign)} captions are not in UTF-8: {', '.join(path.name for path in foreign)} "
            f"(in {foreign[0].parent}). Open them in an editor and save them with encoding UTF-8."
        )
    return captions
