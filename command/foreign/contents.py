"""The content of a settings file: YAML, TOML, JSON or a script with options.

Files may come from anywhere: broken, endless or boundlessly nested ones are refused.
"""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path
from typing import Any

from ...dataset.text import read_text
from ...language import say
from ...trainer.runs.job import JobError
from ...values import LARGEST, read_json, read_yaml, require_shallow

SCRIPTS = frozenset({".sh", ".bat", ".cmd", ".ps1"})
VARIABLE = re.compile(r"(\$\{?\w+\}?|%\w+%)")
SCRIPT = "script"
"""The key under which a script's options have the name of the program they are for."""


def read_mapping(path: Path) -> dict[str, Any]:
    """The settings of a file. Raises JobError if it is unreadable, or holds none."""
    content = read_content(path)
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise JobError(
            say("{path} holds no settings. Write `key: value` lines.", path=path)
        )  # fmt: skip
    return content


def read_content(path: Path) -> Any:
    """The values of a file, of any shape. Raises JobError naming the file and what is wrong."""
    suffix = path.suffix.lower()
    try:
        if path.stat().st_size > LARGEST:
            raise JobError(
                say(
                    "{path} has {size} MB: it is not a settings file.",
                    path=path, size=path.stat().st_size // 10**6,
                )
            )  # fmt: skip
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(say("{path} cannot be read: {error}.", path=path, error=error)) from None
    try:
        if suffix in SCRIPTS:
            return read_options(text, suffix != ".sh")
        if suffix == ".toml":
            return read_toml(text)
        return read_json(text, unique=True) if suffix == ".json" else read_yaml(text)
    except ValueError as error:
        raise JobError(say("{path} is broken: {error}", path=path, error=error)) from None


def find_beside(path: Path, name: str, key: str) -> Path:
    """The file that a setting names: beside the settings, or in a folder above, where the trainer
    was started. JobError if it is in none."""
    below = Path(name.replace("\\", "/")).expanduser()
    places = [folder / below for folder in path.absolute().parents]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise JobError(
            say(
                "{path}: there is no {file}, which `{key}` names, neither beside it nor in a "
                "folder above. Write its full path.",
                path=path, file=below, key=key,
            )
        )  # fmt: skip
    return found


def beside(path: Path, name: str, key: str) -> dict[str, Any]:
    """The settings of the file that `find_beside` finds."""
    return read_mapping(find_beside(path, name, key))


def read_toml(text: str) -> Any:
    """TOML's values. Raises ValueError for any other text."""
    try:
        content = toml_reader().loads(text)
    except RecursionError as error:
        raise ValueError(say("nested too deeply")) from error
    require_shallow(content)
    return content


def toml_reader() -> Any:
    for name in ("tomllib", "tomli"):  # the first comes with Python 3.11
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise JobError(say("TOML needs Python 3.11, or the package tomli (pip install tomli)."))


def read_options(text: str, windows: bool) -> dict[str, Any]:
    """The `--key value` options of a script's commands; later ones win.

    Keys get underscores. An option without a value is True, one with several is a list. `script` is
    the last Python file that is started.
    """
    variables = dict(
        re.findall(
            r"(?m)^[ \t]*(?:export[ \t]+|set[ \t]+\"?|\$env:)?(\w+)=[\"']?([^\"'\r\n]*)", text
        )
    )
    comment = r"(?im)^[ \t]*(?:#|rem\b|::).*$"
    # each run of blanks is tried from its first one only
    ending = r"(?<![ \t])[ \t]*[\\^`][ \t]*\r?\n"
    joined = re.sub(ending, " ", re.sub(comment, "", text))
    options: dict[str, Any] = {}
    expanded = 0
    for line in joined.splitlines():
        key = ""
        for word in split_command(line, windows):
            pieces = VARIABLE.split(word)
            pieces[1::2] = [variables.get(use.strip("${}%"), use) for use in pieces[1::2]]
            expanded += sum(map(len, pieces[1::2]))
            if expanded > LARGEST:
                raise ValueError(
                    say("its variables expand to more text than any settings file has")
                )
            word = "".join(pieces)
            if re.fullmatch(r"[|;&]+|\d?>.*", word):
                break  # what follows is another command, or where the output goes
            if match := re.fullmatch(r"--([A-Za-z]\w*(?:-\w+)*)(?:=(.*))?", word, re.DOTALL):
                key = match[1].replace("-", "_")
                options[key] = True if match[2] is None else match[2]
            elif word.endswith(".py"):
                options[SCRIPT], key = Path(word.replace("\\", "/")).name, ""
            elif key and options[key] is True:
                options[key] = word
            elif key:
                options[key] = as_list(options[key])
                options[key].append(word)
    return options


def split_command(line: str, windows: bool) -> list[str]:
    """The words of a command line. On Windows, a backslash is an ordinary character."""
    try:
        words = shlex.split(line, comments=not windows, posix=not windows)
    except ValueError:  # a quotation mark that is never closed, as in an echoed sentence
        words = line.split()
    return [re.sub(r"^([\"'])(.*)\1$", r"\2", word) for word in words] if windows else words


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
