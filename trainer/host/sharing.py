"""Who can reach ComfyUI's server, and which folders it may therefore read and write."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import folder_paths
import yaml

from ...dataset.access import Access, AccessError, names_a_file
from ...dataset.text import decoded
from ...files import storing, write_atomically
from ...language import say
from ...values import read_yaml
from .names import comfy_module, optional

cli_args = comfy_module("comfy.cli_args")

SHIPPED = Path(__file__).resolve().parents[2] / "sample_pairs"
# Of ComfyUI's user folders, those with two underscores are out of its pages' reach
OWNERS_LIST = Path("__kontext", "folders.yaml")
TEMPLATE = """\
# Folders that may be read through this server, besides ComfyUI's input, output and temp folders.
# They count while others can reach it. A line for each, such as
#   - D:\\jewellery
{folders}

# auto: others can reach it if ComfyUI was started with --listen, --enable-cors-header or
#       --multi-user; yes: they can, for example through a proxy; no: whoever can is trusted.
shared: {shared}
"""


def access() -> Access:
    """The folders that this server may read and write for its clients."""
    folders, shared = owners_list()
    own = (
        folder_paths.get_input_directory(),
        folder_paths.get_output_directory(),
        folder_paths.get_temp_directory(),
    )
    trusted = not (shared == "yes" or (shared == "auto" and others_can_reach()))
    lent = (SHIPPED, *folders)
    return Access(tuple(map(Path, own)), lent, trusted, f"user/{OWNERS_LIST.as_posix()}")


def others_can_reach() -> bool:
    """Whether other machines or sites can reach the server, as it was started; they can if this
    ComfyUI does not say how it was."""
    args = optional(cli_args, "args", None)
    if not args or args.enable_cors_header or args.multi_user:
        return True
    return not all(is_loopback(address.strip()) for address in args.listen.split(","))


def is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
        return (getattr(found, "ipv4_mapped", None) or found).is_loopback
    except ValueError:  # a name
        return address == "localhost"


def list_file() -> Path:
    return Path(folder_paths.get_user_directory()) / OWNERS_LIST


def owners_list() -> tuple[tuple[Path, ...], str]:
    """The owner's folders, and whether the server counts as shared: auto, yes or no.

    Raises AccessError for a file that cannot be understood: nothing is read until it is corrected.
    """
    file = list_file()
    return owners_choice(file, file.stat().st_mtime_ns if file.exists() else 0)


def write_folders(texts: Sequence[str]) -> None:
    """Replace the owner's folders. Raises AccessError naming missing ones, and StorageError."""
    folders = [Path(text.strip().strip('"')).expanduser() for text in texts if text.strip()]
    wrong = [str(path) for path in folders if not (path.is_absolute() and is_folder(path))]
    if wrong:
        raise AccessError(
            say(
                "There is no folder {folders}. Write full paths, one per line.",
                folders=say(", ").join(wrong)[:500],
            )
        )
    file, (_, shared) = list_file(), owners_list()
    with storing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, list_text(folders, shared).encode("utf-8"))


def list_text(folders: Sequence[Path] = (), shared: str = "auto") -> str:
    listed = yaml.safe_dump({"folders": [str(path) for path in folders]}, allow_unicode=True)
    return TEMPLATE.format(folders=listed.strip(), shared=shared)


def is_folder(path: Path) -> bool:
    return names_a_file(path) and path.is_dir()


def write_template() -> None:
    """Write an empty list for the owner to fill in, if others can reach the server."""
    file = list_file()
    if not others_can_reach() or file.exists():
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(list_text(), encoding="utf-8")
    except OSError as error:
        logging.warning("Could not write %s: %s", file, error)


@lru_cache(maxsize=4)
def owners_choice(file: Path, modified: int) -> tuple[tuple[Path, ...], str]:
    """What the file says, read again when it changes."""
    if not modified:
        return (), "auto"
    try:
        content: Any = read_yaml(decoded(file.read_bytes())) or {}
        folders, shared = content.get("folders") or [], content.get("shared", "auto")
        if not isinstance(folders, list):
            raise wrong_list()
        folders = tuple(Path(folder).expanduser() for folder in folders)
        shared = {True: "yes", False: "no"}.get(shared, shared)  # YAML's yes and no
    except (AttributeError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise wrong_list() from error
    if shared not in ("auto", "yes", "no") or not all(path.is_absolute() for path in folders):
        raise wrong_list()
    return folders, shared


def wrong_list() -> AccessError:
    return AccessError(
        say(
            "{file} in ComfyUI's user folder cannot be understood, so nothing is read. It holds "
            "`folders:`, a list of full paths, and `shared:`, which is auto, yes or no.",
            file=OWNERS_LIST.as_posix(),
        )
    )
