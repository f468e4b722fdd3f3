"""The content of a settings file: YAML, TOML, JSON or a script with options.

Files may come from anywhere: broken, endless or boundlessly nested ones are refused.
"""

from __future__ import annotations

import importlib
import json
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from ...dataset.text import read_text
from ...language import say
from ...trainer.runs.job import JobError

LARGEST = 4 * 2**20  # bytes; the longest known settings have 30,000
MOST_VALUES = 100_000
DEEPEST = 50
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
            return toml_reader().loads(text)
        return read_json(text) if suffix == ".json" else read_yaml(text)
    # ValueError: not JSON or TOML, a number of 5,000 digits, a date in month 13
    except (ValueError, RecursionError, yaml.YAMLError) as error:
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


def toml_reader() -> Any:
    for name in ("tomllib", "tomli"):  # the first comes with Python 3.11
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise JobError(say("TOML needs Python 3.11, or the package tomli (pip install tomli)."))


def read_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=once_each)


def once_each(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping; ValueError for a key that is set twice, as one value would be lost."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(say("{key} is set twice", key=key))
        found[key] = value
    return found


def read_yaml(text: str) -> Any:
    """YAML's values. JSON is YAML too, except where it is indented by tabs."""
    if text.lstrip().startswith("{"):
        try:
            return read_json(text)
        except json.JSONDecodeError:
            pass  # YAML may start with a brace as well
    return yaml.load(text, BoundedLoader)


class BoundedLoader(yaml.SafeLoader):
    """PyYAML's safe loader, with a bound on depth and on values, each alias counted in full."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.values, self.depth = 0, 0
        self.sizes: dict[int, int] = {}  # of finished nodes, by identity

    def compose_node(self, parent: Any, index: Any) -> Any:
        mark = self.peek_event().start_mark
        alias = self.check_event(yaml.AliasEvent)
        before, self.depth = self.values, self.depth + 1
        if self.depth > DEEPEST:
            raise yaml.MarkedYAMLError(problem=say("nested too deeply"), problem_mark=mark)
        node = super().compose_node(parent, index)
        if alias and id(node) not in self.sizes:
            raise yaml.MarkedYAMLError(problem=say("an alias of itself"), problem_mark=mark)
        self.values += self.sizes[id(node)] if alias else 1
        if self.values > MOST_VALUES:
            raise yaml.MarkedYAMLError(problem=say("too many values"), problem_mark=mark)
        self.sizes.setdefault(id(node), self.values - before)
        self.depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        named = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in named:
                problem = say("{key} is set twice", key=key.value)
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            named.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return node


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
