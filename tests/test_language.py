"""Every sentence that a user reads exists in both languages, with the same values."""

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
from kontext import language

ROOT = Path(language.__file__).parent
ROOMS = ("captioning", "command", "dataset", "evaluation", "nodes", "routes", "trainer")

ENGLISH_ONLY = {
    "__init__.py: comfy_entrypoint": "at ComfyUI's start, before a language is known",
    "dataset/geometry.py: bucket_size": "a programming error: no picture has a side of 0",
    "evaluation/compare/vote.py: cast_vote": "of a damaged line, which the log names",
    "evaluation/score/heldout.py: known_losses": "of a damaged line, which the log names",
    "lines.py: _entries": "of a damaged line, which the log names",
    "trainer/optimizers.py: create_optimizer": "a programming error: TrainConfig knows the names",
    "trainer/runs/log.py: logged_step": "of a damaged line, which the log names",
}


def modules() -> Iterator[tuple[Path, ast.Module]]:
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    for path in [*ROOT.glob("*.py"), *files]:
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def says(node: ast.AST) -> bool:
    return is_call(node) and getattr(node.func, "id", "") == "say"


def is_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call)


def sentences() -> dict[str, Path]:
    """The first argument of every call of `say`, which must be written out there."""
    found = {}
    for path, module in modules():
        for node in filter(says, ast.walk(module)):
            assert isinstance(node.args[0], ast.Constant), f"{path}:{node.lineno}"
            found[node.args[0].value] = path
    return found


def unsaid(node: ast.AST) -> Iterator[str]:
    """The texts below this node that no `say` is given."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif not says(node):
        for child in ast.iter_child_nodes(node):
            yield from unsaid(child)


def english_errors(module: ast.Module) -> Iterator[str]:
    """The functions that make an error, or refuse a request, with English words of their own."""
    for function in ast.walk(module):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for call in filter(is_call, ast.walk(function)):
                name = getattr(call.func, "id", getattr(call.func, "attr", ""))
                if re.search(r"(Error|Found)$|^HTTP", name) and any(
                    re.search("[a-z]{2,} [a-z]+", text)
                    for part in (*call.args, *(keyword.value for keyword in call.keywords))
                    for text in unsaid(part)
                ):
                    yield function.name


def places(sentence: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name}


@pytest.fixture
def chinese(monkeypatch):
    monkeypatch.setattr(language, "_source", lambda: "zh")


def test_no_sentence_lacks_a_language():
    catalogue = language.catalogue("zh")
    assert sorted(set(sentences()) - set(catalogue)) == []
    assert sorted(set(catalogue) - set(sentences())) == [], "nobody says these any more"


def test_errors_speak_the_language_of_the_user():
    found = {
        f"{path.relative_to(ROOT).as_posix()}: {function}"
        for path, module in modules()
        for function in english_errors(module)
    }
    assert found == set(ENGLISH_ONLY)


def test_a_translation_has_the_same_values():
    for sentence, translated in language.catalogue("zh").items():
        assert places(sentence) == places(translated), sentence


def test_the_user_decides(chinese, monkeypatch):
    monkeypatch.setattr(language, "catalogue", {"zh": {"{n} pairs": "{n} 对"}, "en": {}}.get)
    assert language.say("{n} pairs", n=3) == "3 对"
    language.follow(lambda: "fr")
    assert language.say("{n} pairs", n=3) == "3 pairs"
