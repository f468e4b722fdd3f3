"""Reading captions and tables, whatever editor wrote them."""

import codecs
import re
from pathlib import Path

from ..language import say
from .access import readable
from .pair import DatasetError

_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

SURROGATE = re.compile("[\ud800-\udfff]")


def read_text(path: Path) -> str:
    """The text of a file, as `decoded`. DatasetError if it cannot be opened."""
    try:
        return decoded(readable(path).read_bytes())
    except OSError as error:
        raise DatasetError(
            say(
                "{path} cannot be opened: {error}. "
                "Give ComfyUI the right to read it, or copy it elsewhere.",
                path=path,
                error=error.strerror,
            )
        ) from error


def decoded(content: bytes) -> str:
    """Text in UTF-8, or in UTF-16 with a byte order mark. Raises UnicodeDecodeError otherwise.

    Lone surrogates, as in file names that are not Unicode, are read as they were written.
    """
    encoding = next((name for bom, name in _BOMS.items() if content.startswith(bom)), "utf-8")
    return content.decode(encoding, "surrogatepass")


def read_utf8(path: Path) -> str:
    """As `read_text`; another encoding is a DatasetError that says how to save the file."""
    try:
        return read_text(path)
    except UnicodeDecodeError:
        raise DatasetError(
            say(
                "{path} is not in UTF-8. Save it as UTF-8; in a spreadsheet, as “CSV UTF-8”.",
                path=path,
            )
        ) from None


def caption_of(text: str) -> str:
    """A caption that every file can hold: without outer spaces, NULs and lone surrogates."""
    whole = SURROGATE.sub("\ufffd", text) if SURROGATE.search(text) else text
    return whole.replace("\0", "").strip("\ufeff \t\r\n").strip()


def listed(names: list[str], most: int = 100) -> str:
    """Names one after the other; beyond `most` only their number."""
    shown = ", ".join(names[:most])
    if len(names) <= most:
        return shown
    return say("{names} and {count} more", names=shown, count=len(names) - most)
