"""The viewer in a real browser, on the real server: look, vote, reload, the vote is still there."""

import json
from pathlib import Path

import pytest

import browser

from ..compared import put_comparison

pytestmark = pytest.mark.skipif(
    browser.find_browser() is None, reason="browser: no Chromium, Chrome or Edge found"
)
RUN = "polished rings"
CONTROL, BASE, FIRST, LAST, TARGET = 0, 1, 2, 4, 5


@pytest.fixture(scope="module")
def folder(server) -> Path:
    return Path(server.base) / "output" / "kontext_runs" / RUN


@pytest.fixture(scope="module")
def address(server, folder) -> str:
    identity = put_comparison(folder)
    return f"{server.url}/kontext/compare/{RUN}/{identity}"


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=browser.find_browser(), args=list(browser.FLAGS)
        )
        yield started
        started.close()


@pytest.fixture
def page(chromium, address):
    """The viewer, in English; fails the test for anything that the page complains about."""
    page = chromium.new_page(viewport={"width": 1280, "height": 800}, locale="en-US")
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: line.type == "error" and errors.append(line.text))
    page.goto(address)
    page.wait_for_selector(".thumb.is-b")
    yield page
    page.close()
    assert errors == []


def shown(page, side) -> str:
    """The cell on a side, as row/column."""
    source = page.get_attribute(f".pane[data-pane=a] img >> nth={'ba'.index(side)}", "src")
    return source.partition("/cell/")[2]


def transforms(page) -> set[str]:
    return set(page.eval_on_selector_all("#stage img", "all => all.map(i => i.style.transform)"))


def test_it_opens_on_before_and_the_last_checkpoint(page):
    assert (shown(page, "a"), shown(page, "b")) == (f"0/{CONTROL}", f"0/{LAST}")
    assert page.locator(".thumb .name").all_inner_texts() == [
        "before", "base model", "step 500 × 1", "step 1000 × 1", "step 1500 × 1", "after"
    ]  # fmt: skip
    loaded = "all => all.every(i => i.complete && i.naturalWidth === 128)"
    page.wait_for_function(f"({loaded})([...document.querySelectorAll('.thumb img, #stage img')])")


def test_text_of_a_run_is_no_markup(page):
    assert "Polish this <b>ring</b>." in page.inner_text("#prompt")
    assert page.locator("#prompt b").count() == 0


def test_the_slider_follows_the_mouse(page):
    box = page.locator(".pane >> nth=0").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 250, steps=4)
    page.mouse.up()
    assert page.get_attribute(".divider", "aria-valuenow") == "20"
    clip = page.eval_on_selector(".pane .layer >> nth=1", "layer => layer.style.clipPath")
    assert clip.startswith("inset(0") and "80%" in clip
    page.mouse.move(box["x"] + 700, box["y"] + 250)  # let go: it stays
    assert page.get_attribute(".divider", "aria-valuenow") == "20"


def test_keys_choose_pictures_and_sides(page):
    press = page.keyboard.press
    press("ArrowRight")
    assert shown(page, "b") == f"0/{TARGET}"
    press("ArrowRight")  # around
    assert shown(page, "b") == f"0/{CONTROL}"
    press("1")
    press("ArrowRight")
    assert shown(page, "a") == f"0/{BASE}"
    press("ArrowDown")
    assert (shown(page, "a"), shown(page, "b")) == (f"1/{BASE}", f"1/{CONTROL}")
    press("ArrowUp")
    page.click(f".thumb >> nth={FIRST}")
    assert shown(page, "a") == f"0/{FIRST}"

    page.reload()  # and all of it is still so
    page.wait_for_selector(".thumb.is-a")
    assert (shown(page, "a"), shown(page, "b")) == (f"0/{FIRST}", f"0/{CONTROL}")


def test_space_flickers(page):
    def visible():
        return page.locator(".pane >> nth=0").locator(".tag:visible").all_inner_texts()

    page.keyboard.press("Space")
    assert visible() == ["before"]
    page.keyboard.press("Space")
    assert visible() == ["step 1500 × 1"]
    page.keyboard.press("s")
    assert visible() == ["before", "step 1500 × 1"]


def test_both_sides_zoom_and_move_together(page):
    page.keyboard.press("d")
    assert page.locator(".pane:visible").count() == 2
    (before,) = transforms(page)
    page.mouse.move(300, 300)
    page.mouse.wheel(0, -600)
    (zoomed,) = transforms(page)
    page.mouse.down()
    page.mouse.move(360, 330, steps=3)
    page.mouse.up()
    (moved,) = transforms(page)
    assert len({before, zoomed, moved}) == 3
    page.keyboard.press("0")
    assert transforms(page) == {before}


def test_the_point_under_the_mouse_stays_where_it_is(page):
    def under(x, y):
        box = page.locator(".pane >> nth=0").locator("img >> nth=0").bounding_box()
        return (x - box["x"]) / box["width"], (y - box["y"]) / box["height"]

    page.mouse.move(500, 250)
    before = under(500, 250)
    page.mouse.wheel(0, -500)
    page.wait_for_function("() => parseInt(document.querySelector('.zoom').textContent) > 600")
    assert under(500, 250) == pytest.approx(before, abs=0.01)


def wait_for_two_pictures(page):
    """Until the server has said which two are to be compared."""
    page.wait_for_function(
        "() => { const shown = [...document.querySelectorAll('#blind .layer img')];"
        " return shown.length && shown.every((image) => image.src); }"
    )


def test_votes_are_blind_and_survive_a_reload(page, folder):
    file = folder / "votes.jsonl"
    file.unlink(missing_ok=True)
    page.click("#vote")
    wait_for_two_pictures(page)
    said = page.inner_text("#blind")
    assert "Left" in said and "step" not in said and "base" not in said
    for count, key in enumerate(["ArrowLeft", "ArrowDown", "ArrowRight"], start=1):
        page.keyboard.press(key)
        page.wait_for_function(
            f"() => document.querySelector('.count').innerText.startsWith('{count} vote')"
        )
    page.click("#blind [data-choice=left]")
    page.wait_for_function("() => document.querySelector('.count').innerText.startsWith('4 v')")
    page.keyboard.press("Backspace")
    page.wait_for_function("() => document.querySelector('.count').innerText.startsWith('3 v')")
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert [line.get("choice") for line in lines] == ["left", "equal", "right", "left", None]

    page.reload()
    page.wait_for_selector(".thumb.is-b")
    page.keyboard.press("r")
    page.wait_for_selector("#results tbody tr")
    assert "Results of 3 votes" in page.inner_text("#results")
    records = page.locator("#results tbody td:nth-child(4)").all_inner_texts()
    cast = [int(part) for text in records if text != "–" for part in text.split(" · ")]
    assert sum(cast) == 6  # every vote is one for each of its two


def test_results_show_what_was_measured_beside_the_votes(page):
    page.click("#ranking")
    row = page.locator("#results tr[data-item='000005dc 1']")
    row.wait_for()
    text = row.inner_text()
    assert "step 1500 × 1" in text and "30%" in text and "25% – 35%" in text and "good" in text
    assert "0.60 s" in text and "14.2 GB" in text
    page.keyboard.press("Escape")
    assert page.locator("#results").is_hidden()


def test_hold_c_to_see_the_picture_before_in_both_places(page):
    page.keyboard.press("v")
    wait_for_two_pictures(page)
    sources = "() => [...document.querySelectorAll('#blind .layer img')].map(i => i.src)"
    pair = set(page.evaluate(sources))
    page.keyboard.down("c")
    assert {source[-2:] for source in page.evaluate(sources)} == {f"/{CONTROL}"}
    page.keyboard.up("c")
    assert set(page.evaluate(sources)) == pair
    page.keyboard.press("Escape")
    assert page.locator("#blind").is_hidden()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_speaks_chinese_in_both_themes(page, address, theme):
    page.goto(f"{address}?theme={theme}&lang=zh")
    page.wait_for_selector(".thumb.is-b")
    assert "第 1500 步 × 1" in page.inner_text("#strip")
    assert page.inner_text("#vote") == "盲选投票"
    red, *_ = page.evaluate("() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g)")
    assert (int(red) > 128) == (theme == "light")


def test_both_languages_have_the_same_words():
    from kontext.routes.files import WEB

    text = (WEB / "viewer" / "words.mjs").read_text("utf-8")
    keys = [
        {line.split(":")[0].strip() for line in part.splitlines() if line[:2] == "  " != line[2:4]}
        for part in text.split("const CHINESE")
    ]
    english = {key for key in keys[0] if key.isidentifier()}
    assert len(english) > 30 and english == {key for key in keys[1] if key.isidentifier()}
