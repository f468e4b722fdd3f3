"""A retoucher's hour on the pages of pairs, in a real browser on the real server."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from kontext.dataset.load import PairSource, find_pairs
from PIL import Image

import api_form
import browser

pytestmark = pytest.mark.skipif(
    browser.find_browser() is None, reason="browser: no Chromium, Chrome or Edge found"
)
COUNT, BY_HAND = 60, 3
INSTRUCTION = "p0lish, Retouch the jewellery."
WORDS = {
    "en": {
        "by hand": "3 by hand",
        "bring": "Bring in 60 pairs",
        "counts": "2 left out · 8 held out",
    },
    "zh": {
        "by hand": "手动配成 3 对",
        "bring": "导入 60 对",
        "counts": "2 对不参与 · 8 对用于验证",
    },
}


def picture(path: Path, seed: int, edited: bool) -> Path:
    """Noise that is blurred, so that no two are alike; the edit makes it bright."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 160, (6, 6, 3), np.uint8)
    image = Image.fromarray(small).resize((96, 96), Image.Resampling.BICUBIC)
    (image.point(lambda level: min(255, level + 60)) if edited else image).save(path)
    return path


@pytest.fixture(scope="module")
def camera(tmp_path_factory) -> dict[str, list[Path]]:
    """What lies on the retoucher's own disk: 57 pairs by name, and 3 that are called otherwise."""
    folder = tmp_path_factory.mktemp("相机 of mine")
    files: dict[str, list[Path]] = {"before": [], "after": []}
    for number in range(COUNT):
        odd = number >= COUNT - BY_HAND
        before = f"raw {number}.png" if odd else f"戒指 {number:02d}_before.png"
        after = f"final {number}.png" if odd else f"戒指 {number:02d}_after.png"
        files["before"].append(picture(folder / "shots" / before, number, False))
        files["after"].append(picture(folder / "done" / after, number, True))
    return files


def open_page(chromium, address: str, language: str):
    page = chromium.new_page(viewport={"width": 1366, "height": 768})
    page.set_default_timeout(90_000)  # other tests may run beside this one
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda line: line.type == "error" and page.errors.append(line.text))
    page.goto(f"{address}?lang={language}")
    return page


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=browser.find_browser(), args=list(browser.FLAGS)
        )
        yield started
        started.close()


def loaded(server, name: str) -> dict[str, object]:
    base = Path(server.base) / "input"
    source = PairSource(f"{name}/before", f"{name}/after", base, base.parent / "temp")
    return {pair.stem: pair for pair in find_pairs(source).dataset}


def saved(page) -> None:
    """Wait until nothing that was typed is unsaved."""
    page.wait_for_function(
        "() => ![...document.querySelectorAll('.facts .state')].some(s => /…/.test(s.textContent))"
    )


def looked_again(page) -> None:
    """Wait until the page has looked at the files by itself, as it does once after 3 seconds."""
    page.wait_for_timeout(max(0, 4000 - page.evaluate("() => performance.now()")))
    page.evaluate("() => window.pairs.lookAgain()")


def bring_in(page, camera, name: str, words: dict[str, str]) -> None:
    for side in ("before", "after"):
        page.set_input_files(f"[data-choose={side}]", [str(path) for path in camera[side]])
        page.locator(f"[data-side={side}] .faint", has_text=str(COUNT)).wait_for()
    for number in range(COUNT - BY_HAND, COUNT):
        page.click(f"[data-left='raw {number}.png']")
        page.click(f"[data-left='final {number}.png']")
    assert words["by hand"] in page.inner_text("#paired")
    assert page.inner_text("#start") == words["bring"]
    page.fill("#name", name)
    page.click("#start")
    page.wait_for_url(re.compile(r"/kontext/pairs/[0-9a-f]{12}"))
    page.wait_for_selector(".pair .view.there")


def decide(page) -> None:
    """Leave out the first two by keys, and hold out the eight after them by a range."""
    page.click("[data-layout=pictures]")
    page.locator("#grid").focus()
    for _ in range(2):
        page.keyboard.press("x")
        page.locator(".pair.current.excluded").wait_for()
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.click(".pair[data-number='9'] .view", modifiers=["Shift"])
    page.click("[data-do=hold-out]")
    page.wait_for_function("() => window.pairs?.set.count(2) === 8")
    page.keyboard.press("Escape")


def write_captions(page) -> None:
    """All by an instruction, five by hand, then a word in all of them."""
    page.click("[data-layout=captions]")
    page.fill("#instruction", INSTRUCTION)
    page.click("#write")
    page.wait_for_selector(".change")
    page.click("#apply")
    page.locator("#dialog").wait_for(state="hidden")
    page.locator("#grid").focus()
    page.keyboard.press("Home")
    page.keyboard.press("e")
    for number in range(5):
        page.keyboard.type(f"ring number {number}, silver, 银")
        page.keyboard.press("Control+Enter")
    saved(page)
    page.keyboard.press("Escape")
    page.wait_for_function("() => window.pairs?.set.pairs[4].caption.includes('number 4')")
    page.click("#edit")
    page.fill("#find", "silver")
    page.fill("#by", "gold")
    page.click("#preview")
    page.locator(".change").nth(4).wait_for()
    assert page.locator(".change").count() == 5
    page.click("#apply")
    page.locator("#dialog").wait_for(state="hidden")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_retouchers_hour(chromium, server, camera, language):
    words, name = WORDS[language], f"精修 my set {language}"
    own = {path: path.read_bytes() for side in camera.values() for path in side}
    page = open_page(chromium, f"{server.url}/kontext/pairs", language)
    bring_in(page, camera, name, words)
    folder = Path(server.base) / "input" / name
    pictures = {path: path.read_bytes() for path in folder.rglob("*.png")}
    assert len(pictures) == 2 * COUNT

    page.click("#check")
    page.wait_for_function(f"() => window.pairs?.set.checked === {COUNT} && !window.pairs.checking")
    if page.locator("#dialog").is_visible():
        page.keyboard.press("Escape")
    decide(page)
    assert words["counts"] in page.inner_text("#counts")
    write_captions(page)

    page.reload()
    page.wait_for_selector(".pair .view.there")
    assert words["counts"] in page.inner_text("#counts")
    page.wait_for_function("() => document.querySelector('.caption textarea').value")
    assert page.input_value("#instruction") == INSTRUCTION
    first = page.locator(".caption >> nth=0")
    assert first.locator("textarea").input_value() == "ring number 0, gold, 银"
    assert first.locator("mark").all_inner_texts() == ["银"]  # T5 cannot read it

    # what other trainers read, byte for byte
    stems = sorted({path.stem for path in pictures}, key=page.evaluate(
        "() => window.pairs.set.pairs.map(pair => pair.stem)").index)  # fmt: skip
    for number, stem in enumerate(stems):
        tail = f" ring number {number}, gold, 银" if number < 5 else ""
        assert (folder / "after" / f"{stem}.txt").read_bytes() == (INSTRUCTION + tail).encode()
    assert {path: path.read_bytes() for path in folder.rglob("*.png")} == pictures
    assert {path: path.read_bytes() for path in own} == own
    found = loaded(server, name)
    assert found.keys() == set(stems[2:])
    assert [stem for stem in stems if stem in found and found[stem].split == "holdout"] == stems[
        2:10
    ]

    # undone step by step, until the instruction is gone
    page.click("#undo")
    page.wait_for_function("() => window.pairs?.set.pairs[0].caption.includes('silver')")
    assert page.errors == []
    page.close()
    if language == "en":
        train(server, name)


def train(server, name: str) -> None:
    prompt = {
        "model": {"class_type": "KontextDemoModel", "inputs": {}},
        "pairs": {
            "class_type": "KontextLoadPairs",
            "inputs": {"control_folder": f"{name}/before", "target_folder": f"{name}/after"},
        },
        "train": {
            "class_type": "KontextTrainLora",
            "inputs": {
                **{each: ["model", place] for place, each in enumerate(("model", "clip", "vae"))},
                "pairs": ["pairs", 0],
                "name": "retouched",
                "steps": 2,
            },
        },
    }
    graph = api_form.with_defaults(prompt, server.get("/object_info"))
    with ThreadPoolExecutor(1) as apart:  # from the browser's event loop
        apart.submit(server.run, graph).result()
    run = Path(server.base) / "output" / "kontext_runs" / "retouched"
    rows = [json.loads(line) for line in (run / "dataset.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == COUNT - 2
    assert sum(row["split"] == "holdout" for row in rows) == 8
    assert sum("ring number" in row["caption"] for row in rows) == 3  # two of five are left out


def test_no_letter_is_lost_on_a_slow_server(chromium, server, camera):
    """What is typed before a caption has come stands behind it; what others change leaves the
    cursor where it is; a captioner that is done between two looks is heard."""
    page = open_page(chromium, f"{server.url}/kontext/pairs", "en")
    bring_in(page, camera, "slow", WORDS["en"])
    captions = Path(server.base) / "input" / "slow" / "after"
    stems = page.evaluate("() => window.pairs.set.pairs.map(pair => pair.stem)")
    for stem in stems[:3]:
        (captions / f"{stem}.txt").write_text("gold", "utf-8")

    def later(route):
        page.wait_for_timeout(1500)
        route.continue_()

    page.evaluate("() => window.pairs.lookAgain()")
    assert page.evaluate("() => window.pairs.set.pairs[0].caption") == "gold"
    page.route("**/texts", later)
    page.reload()
    page.click("[data-layout=captions]")
    page.locator("#grid").focus()
    page.keyboard.press("e")
    page.keyboard.type(", ring x")
    assert page.locator(".caption textarea").first.input_value() == ", ring x"  # not come yet
    saved(page)
    page.wait_for_function("() => window.pairs?.set.pairs[0].caption === 'gold, ring x'")
    assert (captions / f"{stems[0]}.txt").read_text("utf-8") == "gold, ring x"

    # another program writes the second caption, and the page looks while one types in the first
    (captions / f"{stems[1]}.txt").write_text("silver", "utf-8")
    page.evaluate("() => { window.pairs.lookAgain(); }")
    for letter in " xxxxxxxxxx":
        page.keyboard.type(letter)
        page.wait_for_timeout(150)
    saved(page)
    page.wait_for_function("() => window.pairs?.set.pairs[1].caption === 'silver'")
    page.wait_for_function("() => window.pairs?.set.pairs[0].caption.endsWith(' xxxxxxxxxx')")
    assert page.evaluate("() => window.pairs.set.count(1)") == 0  # no letter was taken for a key
    assert (captions / f"{stems[0]}.txt").read_text("utf-8") == "gold, ring x xxxxxxxxxx"
    page.keyboard.press("Escape")

    looked_again(page)
    # a conflict that waits for its answer keeps the text, however far one scrolls
    (captions / f"{stems[0]}.txt").write_text("by an editor", "utf-8")
    page.locator(".pair[data-number='0'] textarea").click()
    page.keyboard.type("!")
    page.locator("[data-do=mine]").wait_for()
    page.keyboard.press("Escape")
    page.evaluate("() => { grid.scrollTop = grid.scrollHeight; }")
    page.locator(f".pair[data-number='{COUNT - 1}']").wait_for()
    page.evaluate("() => { grid.scrollTop = 0; }")
    page.locator("[data-do=mine]").click()
    page.wait_for_function("() => window.pairs?.set.pairs[0].caption.includes('!')")
    assert "!" in (captions / f"{stems[0]}.txt").read_text("utf-8")
    page.evaluate("() => window.pairs.grid.reveal(0)")
    page.locator("#grid").focus()

    # a decision has the text read again, and it can be changed as before
    page.keyboard.press("x")
    page.locator(".pair.excluded").wait_for()
    page.wait_for_function("() => window.pairs?.set.texts.has(0)")

    looks = []
    listing = page.evaluate("() => window.pairs.set.listing")

    def answers(route):
        looks.append(len(looks))
        texts = {"1": "a ring of gold"} if len(looks) > 1 else {}
        about = {"listing": listing, "done": 0, "total": 0, "working": False}
        route.fulfill(json={"texts": texts, "problems": {}, **about})

    page.route("**/answers", answers)
    page.evaluate("""async () => {
        const { pairs } = window;
        pairs.machine = { waiting: true };
        (await import("../web/pairs/ask.mjs")).followMachine(pairs.set, pairs);
    }""")
    page.wait_for_timeout(300)
    page.evaluate("() => window.postMessage({ kontext: 'described' }, location.origin)")
    page.locator("[data-do=accept]").first.wait_for(timeout=60_000)
    assert not [each for each in page.errors if "409" not in each]  # the conflict
    page.close()


def put_set(server, name: str, stems: list[str]) -> tuple[str, Path]:
    """A data set without captions, read by its node; its page's path and its targets' folder."""
    folder = Path(server.base) / "input" / name
    for side in ("before", "after"):
        for number, stem in enumerate(stems):
            picture(folder / side / f"{stem}.png", number, side == "after")
    prompt = {
        "load": {
            "class_type": "KontextLoadPairs",
            "inputs": {"control_folder": f"{name}/before", "target_folder": f"{name}/after"},
        },
        "show": {"class_type": "PreviewAny", "inputs": {"source": ["load", 2]}},
    }
    graph = api_form.with_defaults(prompt, server.get("/object_info"))
    with ThreadPoolExecutor(1) as apart:  # from the browser's event loop
        entry = apart.submit(server.run, graph).result()
    return f"/kontext/pairs/{entry['outputs']['load']['kontext_pairs'][0]}", folder / "after"


def test_pictures_come_and_go_while_one_types(chromium, server):
    """Letters stay with the pair they were meant for; where it is gone, they do nothing."""
    path, targets = put_set(server, "50 % #1 换", ["b 1", "b 2"])
    page = open_page(chromium, server.url + path, "en")
    page.wait_for_function("() => window.pairs?.set.texts.size === 2")
    looked_again(page)
    page.fill("#instruction", "not yet written")
    page.fill("#search", "b")  # what is listed anew leaves what is being written elsewhere
    assert page.input_value("#instruction") == "not yet written"
    page.fill("#search", "")
    page.fill("#instruction", "")

    page.locator(".caption textarea").first.click()
    page.keyboard.type("ring, ")
    for side in ("before", "after"):
        picture(targets.parent / side / "a 0.png", 9, side == "after")
    page.evaluate("() => window.pairs.lookAgain()")
    page.wait_for_function("() => window.pairs?.set.pairs.length === 3")
    page.keyboard.type("xxx")
    saved(page)
    page.wait_for_function("() => window.pairs?.set.pairs[1].caption === 'ring, xxx'")
    assert (targets / "b 1.txt").read_text("utf-8") == "ring, xxx"
    assert not (targets / "a 0.txt").exists()

    # the file says something else, and its text has not come yet when one types on
    (targets / "b 1.txt").write_text("by an editor", "utf-8")
    page.evaluate("() => { window.pairs.set.read = async () => {}; }")
    page.evaluate("() => window.pairs.lookAgain()")
    page.wait_for_function("() => window.pairs?.set.pairs[1].caption === 'by an editor'")
    page.keyboard.type("!")
    page.locator("[data-do=theirs]").wait_for()
    assert (targets / "b 1.txt").read_text("utf-8") == "by an editor"
    page.evaluate("() => { delete window.pairs.set.read; }")
    page.locator("[data-do=theirs]").focus()
    page.keyboard.press("Enter")
    page.wait_for_function(
        "() => document.querySelector('[data-number=\"1\"] textarea').value === 'by an editor'"
    )

    page.locator(".pair[data-number='1'] textarea").click()
    for side in ("before", "after"):
        (targets.parent / side / "b 1.png").unlink()
    page.evaluate("() => window.pairs.lookAgain()")
    page.wait_for_function("() => window.pairs?.set.pairs.length === 2")
    page.keyboard.type("xhx")
    page.keyboard.press("Escape")
    page.wait_for_timeout(500)
    assert page.evaluate("() => window.pairs.set.pairs.map(pair => pair.flags)") == [0, 0]
    page.keyboard.press("x")
    page.locator(".pair.excluded").wait_for()

    # in the large view, too, Enter means the button that has the focus
    page.keyboard.press("Enter")
    page.locator("#look [data-do=excluded]").focus()
    page.keyboard.press("Enter")
    page.wait_for_function("() => window.pairs?.set.count(1) === 0")
    assert page.locator("#look").is_visible()
    assert not [each for each in page.errors if "409" not in each]  # the conflict
    page.close()


def test_the_next_pair_after_an_undo_and_every_tag(chromium, server):
    """From a pair that an undo took out of the filter, the keys lead on to its neighbours."""
    path, targets = put_set(server, "look on", [f"ring {number}" for number in range(5)])
    (targets / "ring 0.txt").write_text(", ".join(f"tag {n}" for n in range(301)), "utf-8")
    page = open_page(chromium, server.url + path, "en")
    page.wait_for_function("() => window.pairs?.set.texts.size === 5")
    looked_again(page)

    for number in (0, 4, 2):
        page.evaluate("number => window.pairs.choose([number], 'excluded')", number)
    page.select_option("#state", "excluded")
    page.evaluate("() => window.pairs.look.start(2)")
    page.keyboard.press("Control+z")
    page.wait_for_function("() => window.pairs?.set.shown.join() === '0,4'")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#look h2") == "ring 4"
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#look h2") == "ring 0"
    page.keyboard.press("Escape")

    page.click("#tag-list")
    assert page.locator(".tag-row").count() == 300
    page.click("text=and 1 more")
    assert page.locator(".tag-row").count() == 301
    assert page.errors == []
    page.close()


def test_one_broken_picture_does_not_keep_the_others_out(chromium, server, camera, tmp_path):
    page = open_page(chromium, f"{server.url}/kontext/pairs", "en")
    before, after = camera["before"][:3], camera["after"][:2]
    broken = tmp_path / camera["after"][2].name
    broken.write_bytes(b"\0\0\0\x18ftypheic")  # as telephones send them
    page.set_input_files("[data-choose=before]", before)
    page.locator("[data-side=before] .faint", has_text="3").wait_for()
    page.set_input_files("[data-choose=after]", [*after, broken])
    page.locator("#name").fill("one broken")
    page.click("#start")
    page.locator("#bring .bad", has_text="HEIC").wait_for()
    page.keyboard.press("Enter")  # the keys are at the link
    page.wait_for_function("() => window.pairs?.set.pairs.length === 2")
    folder = Path(server.base) / "input" / "one broken"
    assert sorted(path.name for path in folder.rglob("*.*")) == sorted(
        [f"戒指 {number:02d}.png" for number in (0, 1)] * 2
    )
    page.close()
