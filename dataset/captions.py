"""Captions of pictures: in files beside them, or in a table that lies in their folder."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..language import say
from ..values import read_json
from .files import Key, Listing
from .names import CAPTION_COLUMNS
from .pair import DatasetError
from .table import caption_key, table_captions
from .text import caption_of, listed, read_text

Wanted = Mapping[Path, Sequence[Key]]
"""Targets, and the keys under which a caption file may lie for each."""


def find_captions(
    wanted: Wanted, target: Listing, beside: Wanted, controls: Sequence[Listing]
) -> tuple[dict[Path, str], list[str]]:
    """Captions by target, and notes on where they were found.

    A file beside the target takes precedence over the table of its folder. Files `beside` the
    controls are read only if there is nothing else.
    """
    files = _files(wanted, [target])
    captions, notes = read_captions(set(files.values()))
    found = {picture: captions[file] for picture, file in files.items() if file in captions}
    for table in target.tables[:1]:
        found, more = _with_table(found, wanted, table)
        notes += more
    others = _files(beside, controls)
    used = {*files.values(), *others.values()}
    if others and not found:
        captions, more = read_captions(set(others.values()))
        found = {picture: captions[file] for picture, file in others.items() if file in captions}
        told = say(
            "{count} captions lie beside the control, none beside the target", count=len(found)
        )
        notes += [*more, told]
    elif others:
        names = listed(sorted({file.name for file in others.values()}), most=20)
        notes.append(say("Captions beside the control are not read: {names}", names=names))
    stray = [file.name for file in target.texts.values() if file not in used and _is_text(file)]
    if stray:
        notes.append(say("Texts without a picture: {names}", names=listed(stray, most=20)))
    return found, notes


def read_captions(paths: Iterable[Path]) -> tuple[dict[Path, str], list[str]]:
    """Captions by file, and a note on JSON files without one.

    Raises DatasetError listing every file in another encoding.
    """
    captions: dict[Path, str] = {}
    foreign: list[Path] = []
    empty: list[str] = []
    for path in sorted(paths):
        try:
            text = read_text(path)
        except UnicodeDecodeError:
            foreign.append(path)
            continue
        caption = _json_caption(text) if path.suffix.lower() == ".json" else text
        if caption is None:
            empty.append(path.name)
        else:
            captions[path] = caption_of(caption)
    if foreign:
        raise DatasetError(
            say(
                "{count} captions are not in UTF-8: {names} (in {folder}). Open them in an editor "
                "and save them with encoding UTF-8.",
                count=len(foreign),
                names=listed([path.name for path in foreign]),
                folder=foreign[0].parent,
            )
        )
    if not empty:
        return captions, []
    columns = ", ".join(CAPTION_COLUMNS[:4])
    note = say(
        "No caption in {names} (looked for {columns}, …)", names=listed(empty, 20), columns=columns
    )
    return captions, [note]


def _files(wanted: Wanted, listings: Sequence[Listing]) -> dict[Path, Path]:
    """The caption file of each picture that has one in `listings`."""
    files = {
        picture: [
            listing.texts[key] for listing in listings for key in keys if key in listing.texts
        ]
        for picture, keys in wanted.items()
    }
    return {picture: paths[0] for picture, paths in files.items() if paths}


def _is_text(file: Path) -> bool:
    return file.suffix.lower() != ".json"  # a JSON file may be anything


def _with_table(
    found: Mapping[Path, str], wanted: Wanted, table: Path
) -> tuple[dict[Path, str], list[str]]:
    """Captions with those of a table where a picture has none yet."""
    captions = table_captions(table)
    named = {p: captions[caption_key(p)] for p in wanted if caption_key(p) in captions}
    notes = [say("{count} captions from {name}", count=len(named.keys() - found), name=table.name)]
    if not named:
        notes = [say("No captions in {name} for these pictures", name=table.name)]
    other = sum(found[picture] != caption for picture, caption in named.items() if picture in found)
    if other:
        notes.append(
            say(
                "{count} captions in {name} differ from the text files, which were taken",
                count=other,
                name=table.name,
            )
        )
    return {**named, **found}, notes


def _json_caption(text: str) -> str | None:
    """The caption in a picture's JSON file: a text, or under one of the usual names."""
    try:
        content = read_json(text)
    except ValueError:
        return None
    return _text_in(content)


def _text_in(content: Any) -> str | None:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return ", ".join(map(str, content))
    if isinstance(content, dict):
        by_name = {str(name).lower(): value for name, value in content.items()}
        filled = (by_name[name] for name in CAPTION_COLUMNS if by_name.get(name))
        return next((_text_in(value) for value in filled), None)
    return None
