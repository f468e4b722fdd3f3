"""The values in a JSON or YAML text, wherever it comes from.

A text that is broken, or whose values are endless or boundlessly nested, raises ValueError and
nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import yaml

from .language import say

DEEPEST = 50  # levels
LONGEST_NUMBER = 300  # digits: longer ones fit no float, and may take hours to read
LARGEST = 4 * 2**20  # letters of a YAML text with all its aliases written out
SMALLEST = 40  # letters that a value counts as at least


def read_json(text: str, unique: bool = False) -> Any:
    """JSON's values. With `unique`, a key that is set twice is refused: one value would be lost."""
    try:
        content = (UNIQUE if unique else PLAIN).decode(text)
    except RecursionError as error:
        raise ValueError(say("nested too deeply")) from error
    if text.count("[") + text.count("{") > DEEPEST:
        require_shallow(content)
    return content


def read_yaml(text: str) -> Any:
    """YAML's values, keys set twice refused. JSON is YAML too, except where tabs indent it."""
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        try:
            return read_json(text.removeprefix("\ufeff"), unique=True)
        except json.JSONDecodeError:
            pass  # YAML may start with a brace as well
    if len(text) > LARGEST:
        raise ValueError(say("{count:,} letters, which no settings have", count=len(text)))
    try:
        return yaml.load(text, BoundedLoader)
    except (yaml.YAMLError, RecursionError, TypeError, LookupError, AttributeError) as error:
        # the last three: PyYAML's constructors of odd scalars, such as `!!timestamp x`
        raise ValueError(str(error)) from error


def read_texts(text: str) -> Any:
    """YAML's values with every word as a text, so that 01 and no are names; ten times faster."""
    try:
        return yaml.load(text, TextLoader)  # noqa: S506  texts only
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(str(error)) from error


def require_shallow(content: Any) -> None:
    """Raise ValueError for values on more than DEEPEST levels."""
    level = [content]
    for _ in range(DEEPEST):
        level = [inner for each in level for inner in held_by(each)]
        if not level:
            return
    raise ValueError(say("nested too deeply"))


def held_by(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def once_each(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping; ValueError for a key that is set twice."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(say("{key} is set twice", key=key))
        found[key] = value
    return found


def read_whole(digits: str) -> int:
    require_short(digits)
    return int(digits)


def require_short(digits: str) -> None:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(say("a number of {count:,} digits", count=len(digits)))


PLAIN = json.JSONDecoder(parse_int=read_whole)
UNIQUE = json.JSONDecoder(parse_int=read_whole, object_pairs_hook=once_each)


class BoundedLoader(yaml.SafeLoader):
    """PyYAML's safe loader, with a bound on depth and on text, each alias counted in full."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.letters, self.depth = 0, 0
        self.sizes: dict[int, int] = {}  # of finished nodes, by identity

    def compose_node(self, parent: Any, index: Any) -> Any:
        mark = self.peek_event().start_mark
        alias = self.check_event(yaml.AliasEvent)
        before, self.depth = self.letters, self.depth + 1
        if self.depth > DEEPEST:
            raise yaml.MarkedYAMLError(problem=say("nested too deeply"), problem_mark=mark)
        node = super().compose_node(parent, index)
        if alias and id(node) not in self.sizes:
            raise yaml.MarkedYAMLError(problem=say("an alias of itself"), problem_mark=mark)
        text = node.value if isinstance(node, yaml.ScalarNode) else ""
        self.letters += self.sizes[id(node)] if alias else max(SMALLEST, len(text))
        if self.letters > LARGEST:
            raise yaml.MarkedYAMLError(problem=say("too many values"), problem_mark=mark)
        self.sizes.setdefault(id(node), self.letters - before)
        self.depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        require_keys_once(node)
        return node

    def construct_yaml_int(self, node: Any) -> int:
        require_short(node.value)
        return super().construct_yaml_int(node)

    def construct_yaml_float(self, node: Any) -> float:
        require_short(node.value)
        return super().construct_yaml_float(node)


for kind in ("int", "float"):
    BoundedLoader.add_constructor(
        f"tag:yaml.org,2002:{kind}", getattr(BoundedLoader, f"construct_yaml_{kind}")
    )


class TextLoader(getattr(yaml, "CBaseLoader", yaml.BaseLoader)):  # type: ignore[misc]
    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        require_keys_once(node)
        return super().construct_mapping(node, deep)


def require_keys_once(node: yaml.MappingNode) -> None:
    named = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value in named:
            problem = say("{key} is set twice", key=key.value)
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
        named.add(key.value if isinstance(key, yaml.ScalarNode) else None)
