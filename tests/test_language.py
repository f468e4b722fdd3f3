"""Every sentence that a user reads exists in both languages, with the same values."""

import ast
import string
from pathlib import Path

import pytest
from kontext import language

ROOT = Path(language.__file__).parent
ROOMS = ("captioning", "command", "dataset", "evaluation", "nodes", "routes", "trainer")


def sentences() -> dict[str, Path]:
    """The first argument of every call of `say`, which must be written out there."""
    found = {}
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    for path in [*ROOT.glob("*.py"), *files]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "say":
                assert isinstance(node.args[0], ast.Constant), f"{path}:{node.lineno}"
                found[node.args[0].value] = path
    return found


def places(sentence: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name}


@pytest.fixture
def chinese(monkeypatch):
    monkeypatch.setattr(language, "_source", lambda: "zh")


def test_no_sentence_lacks_a_language():
    catalogue = language.catalogue("zh")
    assert sorted(set(sentences()) - set(catalogue)) == []
    assert sorted(set(catalogue) - set(sentences())) == [], "nobody says these any more"


def test_a_translation_has_the_same_values():
    for sentence, translated in language.catalogue("zh").items():
        assert places(sentence) == places(translated), sentence


def test_the_user_decides(chinese, monkeypatch):
    monkeypatch.setattr(language, "catalogue", {"zh": {"{n} pairs": "{n} 对"}, "en": {}}.get)
    assert language.say("{n} pairs", n=3) == "3 对"
    language.follow(lambda: "fr")
    assert language.say("{n} pairs", n=3) == "3 pairs"
