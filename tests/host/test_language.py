"""The server speaks the language of ComfyUI's interface: on the nodes, in errors."""

import json
import re
import urllib.request

import pytest

from driver import PromptError

CHINESE = re.compile("[\u4e00-\u9fff]")


@pytest.fixture
def set_language(server):
    """A function: choose a language in ComfyUI's settings, or with None what a new user has."""
    file = server.base / "user" / "default" / "comfy.settings.json"

    def choose(locale: str | None) -> None:
        if locale:
            server.post("/settings", {"Comfy.Locale": locale})
        elif file.exists():
            settings = json.loads(file.read_text())
            settings.pop("Comfy.Locale", None)
            file.write_text(json.dumps(settings))

    yield choose
    choose(None)
    say_page_language(server, "en")


def say_page_language(server, locale: object) -> None:
    """What web/language.js sends when a page opens."""
    headers = {"Content-Type": "application/json", "Origin": server.url}
    body = json.dumps({"locale": locale}).encode()
    urllib.request.urlopen(urllib.request.Request(f"{server.url}/kontext/language", body, headers))


def compare_nothing() -> dict:
    model = [["model", socket] for socket in range(3)]
    inputs = dict(zip(("model", "clip", "vae"), model, strict=True))
    node = {"class_type": "KontextCompareCheckpoints", "inputs": inputs}
    return {"model": {"class_type": "KontextDemoModel", "inputs": {}}, "compare": node}


def sentence(run) -> str:
    """What the node says when there is nothing to compare."""
    with pytest.raises(PromptError) as error:
        run(compare_nothing())
    return str(error.value)


def test_errors_are_in_the_language_of_the_settings(run, server, set_language):
    for locale, chinese in (("zh", True), ("en", False), ("zh-TW", True)):
        set_language(locale)
        assert bool(CHINESE.search(sentence(run))) == chinese


def test_who_never_chose_is_answered_in_the_language_of_the_page(run, server, set_language):
    set_language(None)
    assert not CHINESE.search(sentence(run))
    say_page_language(server, "zh-CN")
    assert CHINESE.search(sentence(run))
    set_language("en")  # a choice counts more than what some page is in
    assert not CHINESE.search(sentence(run))


def test_what_a_training_says_is_in_the_users_language(run, train, set_language):
    set_language("zh")
    texts = []
    run(train("语言"), lambda event: event.kind == "text" and texts.append(event.content["text"]))
    assert texts and CHINESE.search(texts[0]), texts


@pytest.mark.parametrize("locale", [None, 3, "", "x" * 5000, ["zh"]], ids=str)
def test_only_a_language_tag_is_taken(server, locale):
    with pytest.raises(urllib.error.HTTPError) as error:
        say_page_language(server, locale)
    assert error.value.code in (400, 413)
