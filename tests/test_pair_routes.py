"""The routes of a data set's page in the real server: what they show, write, and refuse."""

import io
import json
from pathlib import Path
from urllib.parse import quote

import pytest
from kontext.dataset.load import PairSource, find_pairs
from PIL import Image

import api_form

FOLDER = "修图 60 pairs"
NAMES = ["a", "b b", "戒指"]
LONG = 2 << 20


def put_pairs(base: Path, folder: str = FOLDER, names=NAMES) -> PairSource:
    sides = {"before": "blue", "after": "red"}
    for side in sides:
        (base / "input" / folder / side).mkdir(parents=True, exist_ok=True)
    for side, colour in sides.items():
        for number, name in enumerate(names):
            picture = Image.new("RGB", (40, 30), colour)
            picture.putpixel((number, 0), (0, 0, 0))
            picture.save(base / "input" / folder / side / f"{name}.png")
            (base / "input" / folder / "after" / f"{name}.txt").write_text(f"see {name}", "utf-8")
    (base / "input" / folder / "after" / "pairs.yaml").unlink(missing_ok=True)
    return PairSource(f"{folder}/before", f"{folder}/after", base / "input", base / "temp")


def load(server, source: PairSource) -> str:
    """Run the Load node; the id of its page."""
    inputs = {"control_folder": source.control, "target_folder": source.target, "holdout": 0.0}
    prompt = {
        "1": {"class_type": "KontextLoadPairs", "inputs": inputs},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 2]}},
    }
    entry = server.run(api_form.with_defaults(prompt, server.get("/object_info")))
    return entry["outputs"]["1"]["kontext_pairs"][0]


@pytest.fixture
def source(server) -> PairSource:
    return put_pairs(Path(server.base))


@pytest.fixture(scope="module")
def identity(server) -> str:
    return load(server, put_pairs(Path(server.base)))


@pytest.fixture
def home(identity, source) -> str:
    return f"/kontext/pairs/{identity}"


@pytest.fixture
def post(ask, server):
    """A function: a POST as the page sends it, its headers changed or (None) left out."""

    def send(path, content, **changes):
        headers = {"Origin": server.url, "Content_Type": "application/json", **changes}
        headers = {name: value for name, value in headers.items() if value is not None}
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        status, _, answer = ask(path, "POST", body, **headers)
        return status, json.loads(answer) if answer[:1] in (b"{", b"[") else answer.decode()

    return send


@pytest.fixture
def index(ask, post, home) -> dict:
    assert post(home + "/again", {})[0] == 200
    return json.loads(ask(home + "/index")[2])


# ---- what it gives ---------------------------------------------------------------------------


def test_the_page_lists_its_pairs_and_no_path(ask, home, index):
    assert ask(home)[0] == 200
    assert index["name"] == FOLDER
    assert [row[1:3] for row in index["pairs"]] == [[name, f"see {name}"] for name in NAMES]
    text = json.dumps(index)
    assert "/" not in text and ".png" not in text


def test_pictures_are_what_training_opens(ask, home, index):
    key = index["pairs"][2][0]
    status, headers, body = ask(f"{home}/picture/2/{key}/target")
    assert status == 200 and headers.get_content_type() == "image/png"
    picture = Image.open(io.BytesIO(body))
    assert picture.size == (40, 30) and picture.getpixel((2, 0)) == (0, 0, 0)
    assert Image.open(io.BytesIO(ask(f"{home}/picture/2/{key}/0")[2])).getpixel((9, 9))[2] == 255
    assert ask(f"{home}/picture/2/{key}/1")[0] == 404  # there is one control
    status, headers, body = ask(f"{home}/thumb/2/{key}")
    small = Image.open(io.BytesIO(body))
    assert (
        small.size == (80, 30) and small.getpixel((20, 15))[2] > 200 < small.getpixel((60, 15))[0]
    )
    assert ask(f"{home}/thumb/2/{key}", If_Modified_Since=headers["Last-Modified"])[0] == 304


def test_decisions_are_read_by_the_loader_and_pictures_stay(post, home, index, source):
    folder = source.base / FOLDER
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    for what, number in (("excluded", 0), ("held_out", 1), ("swapped", 2)):
        decision = {"listing": index["listing"], "numbers": [number], "what": what, "value": True}
        status, answer = post(home + "/choose", decision)
        assert status == 200
        assert answer["rows"][str(number)][3] == {"excluded": 1, "held_out": 2, "swapped": 4}[what]
    loaded = {pair.stem: pair for pair in find_pairs(source).dataset}
    assert loaded.keys() == {"b b", "戒指"} and loaded["b b"].split == "holdout"
    assert loaded["戒指"].target.parent.name == "before"
    for _ in range(3):
        assert post(home + "/undo", {})[0] == 200
    assert len(find_pairs(source).dataset) == 3
    assert {path: path.read_bytes() for path in folder.rglob("*.png")} == before


def test_a_caption_is_saved_and_a_conflict_shown(post, home, index, source):
    key = index["pairs"][0][0]
    file = source.base / FOLDER / "after" / "a.txt"
    mine = {"number": 0, "key": key, "before": "see a", "description": "a 红 ring"}
    status, answer = post(home + "/caption", mine)
    assert status == 200 and file.read_bytes() == "a 红 ring".encode()
    assert answer["unreadable"] == "红" and answer["tokens"][1] == 512
    file.write_text("by an editor", "utf-8")
    status, answer = post(home + "/caption", {**mine, "before": "a 红 ring"})
    assert status == 409 and answer["found"] == {"0": "by an editor"}
    assert file.read_text("utf-8") == "by an editor"


def test_what_was_previewed_is_what_is_saved(post, home, index, source):
    edit = {"listing": index["listing"], "numbers": None, "kind": "replace"}
    edit |= {"text": "see (.)", "by": r"look at \1", "regex": True}
    status, answer = post(home + "/edit", edit)
    assert status == 200 and answer["changes"][0] == [0, "see a", "look at a"]
    assert find_pairs(source).dataset.pairs[0].caption == "see a"  # nothing is saved yet
    assert post(home + "/edit", {**edit, "by": "x", "agreed": answer["digest"]})[0] == 409
    status, answer = post(home + "/edit", {**edit, "agreed": answer["digest"]})
    assert status == 200 and answer["conflicts"] == {}
    assert find_pairs(source).dataset.pairs[0].caption == "look at a"
    assert post(home + "/edit", {**edit, "text": "("})[0] == 409


def test_a_check_ends_with_findings_on_pairs(post, ask, home, source, index):
    control = source.base / FOLDER / "before" / "a.png"
    control.write_bytes((source.base / FOLDER / "after" / "a.png").read_bytes())
    assert post(home + "/check", {"stop": False})[0] == 200
    for _ in range(200):
        found = json.loads(ask(home + "/findings")[2])
        if not found["running"]:
            break
    assert found["checked"] == 3
    assert any(each["kind"] == "identical" for each in found["pairs"]["0"])
    assert any(each["kind"] == "few pairs" for each in found["general"])


def test_a_check_reads_captions_as_they_are_written_by_now(post, ask, home, source, index):
    """Nothing stands on a caption that was found on an earlier one."""
    for name in NAMES:
        (source.base / FOLDER / "after" / f"{name}.txt").unlink()
    assert post(home + "/again", {})[0] == 200
    captions = {0: "a ring", 1: "word " * 600, 2: ""}
    for number in (0, 1):
        mine = {"number": number, "key": index["pairs"][number][0], "before": ""}
        assert post(home + "/caption", {**mine, "description": captions[number]})[0] == 200

    def kinds() -> list[set[str]]:
        found = json.loads(ask(home + "/findings")[2])["pairs"]
        return [{each["kind"] for each in found.get(str(number), ())} for number in range(3)]

    assert post(home + "/check", {"stop": False})[0] == 200
    while json.loads(ask(home + "/findings")[2])["running"]:
        pass
    about = {"no caption", "long caption"}
    assert [each & about for each in kinds()] == [set(), {"long caption"}, {"no caption"}]
    mine = {"number": 2, "key": index["pairs"][2][0], "before": "", "description": "a ring"}
    assert post(home + "/caption", mine)[0] == 200
    assert [each & about for each in kinds()] == [set(), {"long caption"}, set()]


def test_a_page_learns_that_another_one_wrote(post, home, index):
    """Whoever did not know what is `known` before an answer has to read everything anew."""
    keys = [row[0] for row in index["pairs"]]
    other = {"number": 1, "key": keys[1], "before": f"see {NAMES[1]}", "description": "theirs"}
    theirs = post(home + "/caption", other)[1]
    assert theirs["known"] == index["stamp"] != theirs["stamp"]
    mine = {"number": 0, "key": keys[0], "before": f"see {NAMES[0]}", "description": "mine"}
    assert post(home + "/caption", mine)[1]["known"] == theirs["stamp"] != index["stamp"]
    decision = {"listing": index["listing"], "numbers": [0], "what": "excluded", "value": True}
    answer = post(home + "/choose", decision)[1]
    assert answer["known"] != answer["stamp"] == post(home + "/again", {})[1]["stamp"]


def test_a_file_added_meanwhile_is_noticed(post, ask, home, index, source):
    assert post(home + "/again", {})[1]["stamp"] == index["stamp"]
    for side in ("before", "after"):
        Image.new("RGB", (8, 8)).save(source.base / FOLDER / side / "A0.png")
    try:
        assert post(home + "/again", {})[1]["stamp"] != index["stamp"]
        status = ask(f"{home}/picture/0/{index['pairs'][0][0]}/target")[0]
        assert status == 409  # the number is another picture's now
    finally:
        for side in ("before", "after"):
            (source.base / FOLDER / side / "A0.png").unlink()


# ---- bringing pictures in ----------------------------------------------------------------------


def png(colour: str = "red") -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (20, 20), colour).save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def upload(ask, server):
    """A function: one picture as the page sends it."""

    def send(plan, number, side, content, **changes):
        headers = {"Origin": server.url, "Content_Type": "application/octet-stream", **changes}
        address = f"/kontext/pairs/bring/{plan}/{number}/{side}"
        headers = {name: value for name, value in headers.items() if value is not None}
        return ask(address, "POST", content, **headers)[0]

    return send


def test_two_sets_become_a_data_set(post, upload, ask, server):
    before, after = ["戒指_before.png", "x.png"], ["y.png", "戒指_after.PNG"]
    status, answer = post("/kontext/pairs/match", {"before": before, "after": after})
    assert status == 200 and answer["pairs"] == [[0, 1, "戒指"]]
    rows = [["戒指", ".png", ".png"], ["x", ".png", ".jpg"]]
    status, begun = post("/kontext/pairs/bring", {"name": "brought in", "pairs": rows})
    assert status == 200 and begun["control"] == "brought in/before"
    for number in range(2):
        for side in ("before", "after"):
            assert upload(begun["plan"], number, side, png()) == 200
    index = json.loads(ask(f"/kontext/pairs/{begun['id']}/index")[2])
    assert [row[1] for row in index["pairs"]] == ["x", "戒指"]
    folder = Path(server.base) / "input" / "brought in"
    assert (folder / "after" / "x.jpg").read_bytes() == png()
    assert upload(begun["plan"], 0, "before", png("blue")) == 409  # nothing is replaced
    assert (folder / "before" / "戒指.png").read_bytes() == png()
    more = {"name": "brought in", "pairs": [["X", ".png", ".png"]]}
    assert post("/kontext/pairs/bring", more)[0] == 409
    more["pairs"] = [["z", ".png", ".png"]]
    assert post("/kontext/pairs/bring", more)[0] == 200
    assert post("/kontext/pairs/bring", {"name": "twice", "pairs": more["pairs"] * 2})[0] == 409


def test_what_is_no_picture_is_not_kept(post, upload, server):
    body = {"name": "not kept", "pairs": [["a", ".png", ".png"]]}
    plan = post("/kontext/pairs/bring", body)[1]["plan"]
    for content in (b"", b"SECRET", b"<html>", png()[:40]):
        assert 400 <= upload(plan, 0, "before", content) < 500
    assert upload(plan, 0, "before", png(), Origin="http://evil.example") == 403
    assert upload(plan, 0, "before", png(), Origin=None) == 403
    assert upload(plan, 0, "before", png(), Content_Type="image/png") == 415
    assert upload(plan, 1, "before", png()) == upload("0" * 32, 0, "before", png()) == 404
    assert upload(plan, 0, "..", png()) in (404, 405)
    assert upload(plan, 0, "before", png()) == 200
    assert upload(plan, 0, "after", b"SECRET") == 409  # so its partner is not kept
    folder = Path(server.base) / "input" / "not kept"
    assert [path for path in folder.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "name", ["", "..", "../x", "a/b", "a\\b", "/etc", "C:\\x", "con", "nul.", ".hidden",
             "a\0b", "x" * 300, "a:b", " ", "\ud800", 5, None, ["a"]], ids=str,
)  # fmt: skip
def test_only_names_of_folders_in_the_input_folder_are_made(post, server, name):
    def folders():
        return sorted(Path(server.base).parent.rglob("before"))

    before = folders()
    rows = [["a", ".png", ".png"]]
    assert 400 <= post("/kontext/pairs/bring", {"name": name, "pairs": rows})[0] < 500
    for row in ([name, ".png", ".png"], ["a", f".png/{name}", ".png"], ["a", ".png", ".py"]):
        assert 400 <= post("/kontext/pairs/bring", {"name": "fine", "pairs": [row]})[0] < 500
    assert folders() == before


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"before": 1, "after": []},
        {"before": [1], "after": []},
        {"before": ["a"] * 20_001, "after": []},
    ],
    ids=lambda content: str(content)[:30],
)
def test_lists_of_names_are_limited(post, content):
    assert post("/kontext/pairs/match", content)[0] == 400


def test_bringing_in_is_limited_and_for_own_pages(post):
    for part in ("match", "bring"):
        assert post(f"/kontext/pairs/{part}", b'{"x": "' + b"x" * (5 << 20) + b'"}')[0] == 413
        assert post(f"/kontext/pairs/{part}", {}, Origin="http://evil.example")[0] == 403


# ---- refusals --------------------------------------------------------------------------------

POSTS = ("again", "choose", "texts", "caption", "edit", "undo", "check", "answers")
GETS = ("", "/index", "/findings", "/answers")


@pytest.mark.parametrize("part", POSTS)
@pytest.mark.parametrize(
    "changes, refused",
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": None}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": None}, 415),
    ],
    ids=str,
)
def test_posts_from_elsewhere_are_refused(post, home, part, changes, refused):
    assert post(f"{home}/{part}", {}, **changes)[0] == refused


@pytest.mark.parametrize("part", GETS)
def test_other_sites_see_nothing(ask, home, part):
    for headers in ({"Sec_Fetch_Site": "cross-site"}, {"Origin": "http://a.b"}):
        assert ask(home + part, **headers)[0] == 403


@pytest.mark.parametrize("part", POSTS)
def test_bodies_are_limited(post, home, part):
    assert post(f"{home}/{part}", b'{"x": "' + b"x" * LONG + b'"}')[0] == 413


@pytest.mark.parametrize("part", POSTS)
@pytest.mark.parametrize(
    "content", [b"{", b"\xff\xfe", [], [1], b'"a"', b"[" * 5000], ids=lambda c: str(c)[:9]
)
def test_what_is_no_object_is_refused(post, home, part, content):
    assert 400 <= post(f"{home}/{part}", content)[0] < 500


def wrong_bodies(index: dict) -> list[tuple[str, dict]]:
    listing, key = index["listing"], index["pairs"][0][0]
    decision = {"listing": listing, "numbers": [0], "what": "excluded", "value": True}
    caption = {"number": 0, "key": key, "before": "see a", "description": "mine"}
    edit = {"listing": listing, "numbers": [0], "kind": "replace", "text": "see", "by": "x"}
    edit |= {"agreed": "0" * 16}
    return [
        *(("choose", {**decision, **wrong}) for wrong in (
            {"listing": "0" * 12}, {"listing": 1}, {"numbers": [3]}, {"numbers": [-1]},
            {"numbers": ["0"]}, {"numbers": [True]}, {"numbers": 5}, {"numbers": "0"},
            {"what": "folder"}, {"what": "__class__"}, {"what": ["excluded"]}, {"value": 1},
            {"value": "true"}, {"what": "repeats", "value": True},
            {"what": "repeats", "value": 1001}, {"what": "repeats", "value": -1},
        )),
        *(("caption", {**caption, **wrong}) for wrong in (
            {"number": 1}, {"number": -1}, {"number": 99}, {"number": "0"}, {"number": True},
            {"key": "0" * 12}, {"key": "../x"}, {"key": None}, {"before": "else"},
            {"before": None}, {"description": 5}, {"description": "x" * 30_000},
        )),
        *(("edit", {**edit, **wrong}) for wrong in (
            {}, {"kind": "eval"}, {"kind": ["add"]}, {"text": ""}, {"text": 5}, {"by": {}},
            {"listing": "x"}, {"numbers": [9]}, {"agreed": 1}, {"kind": "shared", "ending": []},
            {"regex": True, "text": "("},
        )),
    ]  # fmt: skip


def test_wrong_bodies_are_refused_and_write_nothing(post, home, index, source):
    folder = source.base / FOLDER
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    bodies = wrong_bodies(index)
    assert len(bodies) > 30
    for part, content in bodies:
        assert 400 <= post(f"{home}/{part}", content)[0] < 500, (part, content)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "place",
    ["0/{other}", "3/{key}", "-1/{key}", "0/..", "0/{key}/..%2f", "9999999/{key}", "0%00/{key}",
     "..%2f..%2fa/{key}", "%d9%a0/{key}"],
)  # fmt: skip
def test_only_pictures_of_pairs_are_opened(ask, home, index, place):
    filled = place.format(key=index["pairs"][0][0], other=index["pairs"][1][0])
    for path in (f"thumb/{filled}", f"picture/{filled}/target", f"picture/{filled}/0"):
        status, _, body = ask(f"{home}/{path}")
        assert status in (400, 404, 409) and b"PNG" not in body and b"JFIF" not in body


def test_only_data_sets_that_a_node_has_read_have_a_page(ask, post):
    for name in ("0" * 12, "a" * 11, "A" * 12, "..", quote("../x", safe=""), "%00", "x" * 300):
        for part in ("", "/index", "/findings", "/thumb/0/" + "0" * 12):
            assert ask(f"/kontext/pairs/{name}{part}")[0] in (400, 404)
        assert post(f"/kontext/pairs/{name}/undo", {})[0] in (400, 404, 405)


def test_a_picture_that_became_something_else_is_not_sent(ask, home, index, source):
    path = source.base / FOLDER / "after" / "a.png"
    path.write_bytes(b"SECRET words, no picture")
    key = index["pairs"][0][0]
    for place in (f"/picture/0/{key}/target", f"/thumb/0/{key}"):
        status, _, body = ask(home + place)
        assert status == 409 and b"SECRET" not in body


@pytest.mark.parametrize("text", ["[", "a: b", "excluded: 5", "\0"])
def test_a_spoilt_file_of_decisions_is_named(post, ask, home, index, source, text):
    (source.base / FOLDER / "after" / "pairs.yaml").write_text(text, "utf-8")
    decision = {"listing": index["listing"], "numbers": [0], "what": "excluded", "value": True}
    status, answer = post(home + "/choose", decision)
    assert status == 409 and "pairs.yaml cannot be understood" in answer
    assert (source.base / FOLDER / "after" / "pairs.yaml").read_text("utf-8") == text


def test_links_out_of_the_input_folder_are_not_followed_where_others_reach(
    server, ask, source, tmp_path
):
    """On a shared server the data set of another folder has no page, though its id is known."""
    outside = put_pairs(tmp_path, "theirs")
    identity = load(server, PairSource(
        str(outside.base / "theirs" / "before"), str(outside.base / "theirs" / "after"),
        outside.base, outside.scratch,
    ))  # fmt: skip
    address = f"/kontext/pairs/{identity}"
    assert ask(address + "/index")[0] == 200
    owners = Path(server.base) / "user" / "__kontext" / "folders.yaml"
    owners.parent.mkdir(exist_ok=True)
    owners.write_text("shared: yes", "utf-8")
    try:
        for part in ("", "/index", "/findings"):
            status, _, body = ask(address + part)
            assert status == 404 and b"theirs" not in body
        assert b"theirs" not in ask("/kontext/pairs/list")[2]
        assert FOLDER in ask("/kontext/pairs/list")[2].decode("unicode_escape")
    finally:
        owners.unlink()
