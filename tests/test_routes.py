"""The viewer's routes in the real server: what they hand out, keep, and refuse."""

import io
import json
import os
import shutil
from pathlib import Path
from urllib.parse import quote

import pytest
from kontext.evaluation.compare.comparison import Comparison
from kontext.evaluation.compare.vote import rank
from PIL import Image

from .addresses import OUTSIDE
from .compared import put_comparison

RUN = "戒指 a%2fb & c"  # a name to be quoted with care
PNG = {"image/png"}


@pytest.fixture(scope="module")
def runs(server) -> Path:
    folder = Path(server.base) / "output" / "kontext_runs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def comparison(runs) -> str:
    return put_comparison(runs / RUN)


@pytest.fixture
def home(comparison) -> str:
    return f"/kontext/compare/{quote(RUN, safe='')}/{comparison}"


@pytest.fixture
def post(ask, home, server):
    """A function: send a vote as the viewer's page does, headers changed or (None) left out."""

    def send(content, **changes):
        headers = {"Origin": server.url, "Sec_Fetch_Site": "same-origin"}
        headers = {"Content_Type": "application/json", **headers, **changes}
        headers = {name: value for name, value in headers.items() if value is not None}
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return ask(f"{home}/votes", "POST", body, **headers)

    return send


VOTE = {"row": 0, "left": 1, "right": 3, "choice": "right"}


# ---- what it gives ---------------------------------------------------------------------------


def test_the_page_and_its_files(ask, home):
    for prefix in ("", "/api"):
        status, headers, body = ask(prefix + home)
        assert status == 200 and headers.get_content_type() == "text/html"
        assert b"../../web/viewer/viewer.mjs" in body
    for file, kind in (("viewer/viewer.mjs", "text/javascript"), ("shared/page.css", "text/css")):
        status, headers, _ = ask(f"/kontext/web/{file}")
        assert status == 200 and headers.get_content_type() == kind


def test_no_file_of_the_page_comes_from_elsewhere():
    """The policy allows this server only, and no file names another."""
    import kontext

    web = Path(kontext.__file__).parent / "web"
    files = [*web.glob("viewer/*"), *web.glob("shared/*")]
    assert len(files) >= 6
    for file in files:
        text = file.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text and "https:" not in text and "//cdn" not in text


def test_comfyui_does_not_load_the_page_into_its_own(server):
    ours = [path for path in server.get("/extensions") if "kontext" in path]
    assert any(path.endswith("/viewer.js") for path in ours)
    assert not any("/viewer/" in path or "/shared/" in path for path in ours)


def test_every_cell_is_its_picture(ask, home, runs, comparison):
    made = Comparison.read(runs / RUN, comparison)
    for row, files in enumerate(made.cells):
        for column, file in enumerate(files):
            status, headers, body = ask(f"{home}/cell/{row}/{column}")
            assert status == 200 and headers.get_content_type() in PNG
            assert body == (runs / RUN / file).read_bytes()


def test_the_manifest_says_what_was_measured_and_no_path(ask, home):
    status, _, body = ask(f"{home}/manifest")
    found = json.loads(body)
    assert status == 200
    assert found["columns"][2]["cost"]["memory"] == 14.2e9
    assert found["scores"]["rings_001500.safetensors"]["verdict"] == "good"
    assert b".png" not in body and b"kontext_runs" not in body


# ---- votes -----------------------------------------------------------------------------------


def test_votes_are_kept_and_ranked(post, ask, home, runs):
    file = runs / RUN / "votes.jsonl"
    file.unlink(missing_ok=True)
    for choice in ("right", "right", "equal"):
        status, _, body = post({**VOTE, "choice": choice})
        assert status == 200
    assert len(file.read_text("utf-8").splitlines()) == 3
    assert json.loads(body) == json.loads(ask(f"{home}/votes")[2])
    first, *_ = json.loads(body)["standings"]
    assert (first["item"], first["wins"], first["equal"]) == ("000003e8 1", 2, 1)

    status, _, body = post({"undo": True})
    assert json.loads(body)["votes"] == 2
    assert len(file.read_text("utf-8").splitlines()) == 4


def test_the_next_pair_is_two_of_what_a_model_made(ask, home):
    seen = set()
    for _ in range(20):
        status, _, body = ask(f"{home}/pair")
        pair = json.loads(body)
        assert status == 200 and pair["left"] != pair["right"]
        assert {pair["left"], pair["right"]} <= {1, 2, 3, 4} and pair["row"] in (0, 1, 2)
        seen.add((pair["left"], pair["right"]))
    assert len(seen) > 3


def test_the_ranking_is_that_of_the_votes(post, runs, comparison):
    from kontext.evaluation.compare.vote import Ballot

    found = json.loads(post(VOTE)[2])["standings"]
    items = Comparison.read(runs / RUN, comparison).contestants
    expected = rank(items, Ballot(runs / RUN / "votes.jsonl").votes(items))
    assert [each["item"] for each in found] == [each.item for each in expected]
    assert [each["score"] for each in found] == pytest.approx([each.score for each in expected])


@pytest.mark.parametrize(
    "content",
    [
        {**VOTE, "choice": "both"},
        {**VOTE, "row": 3},
        {**VOTE, "row": -1},
        {**VOTE, "row": "0"},
        {**VOTE, "row": True},
        {**VOTE, "left": 99},
        {**VOTE, "left": 3},  # against itself
        {**VOTE, "left": 0},  # the control is not voted on
        {"choice": "left"},
        {"undo": 1},
        [VOTE],
        b"{",
        b"\xff\xfe",
    ],
    ids=str,
)
def test_what_is_no_vote_is_refused_and_not_kept(post, runs, content):
    file = runs / RUN / "votes.jsonl"
    before = file.read_bytes() if file.exists() else b""
    status, *_ = post(content)
    assert status == 400
    assert (file.read_bytes() if file.exists() else b"") == before


# ---- refusals: who asks ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Origin": None, "Sec_Fetch_Site": None}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content_Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content_Type": None}, 415),
    ],
    ids=str,
)
def test_a_vote_from_elsewhere_is_refused(post, runs, changes, refused):
    file = runs / RUN / "votes.jsonl"
    before = file.read_bytes() if file.exists() else b""
    status, *_ = post(VOTE, **changes)
    assert status == refused
    assert (file.read_bytes() if file.exists() else b"") == before


def test_a_vote_too_long_to_be_one_is_refused(post):
    assert post(json.dumps({**VOTE, "more": "x" * 5000}).encode())[0] == 413


@pytest.mark.parametrize("part", ["", "/manifest", "/cell/0/0", "/pair", "/votes"])
@pytest.mark.parametrize(
    "headers",
    [{"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"}, {"Origin": "http://a.b"}],
    ids=str,
)
def test_other_sites_see_nothing(ask, home, part, headers):
    assert ask(home + part, **headers)[0] == 403


def test_other_sites_can_neither_embed_nor_frame_it(ask, home):
    for part in ("", "/cell/0/0"):
        headers = ask(home + part)[1]
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["X-Frame-Options"] == "SAMEORIGIN"
        assert headers["X-Content-Type-Options"] == "nosniff"


# ---- refusals: what is asked for -------------------------------------------------------------


@pytest.mark.parametrize("run", OUTSIDE, ids=lambda run: run[:30])
@pytest.mark.parametrize("part", ["", "/manifest", "/cell/0/0", "/votes"])
def test_only_names_of_runs_are_opened(ask, comparison, server, run, part):
    """A comparison lies one folder above the runs, where each of these would lead."""
    outside = Path(server.base) / "output"
    if not (outside / "comparisons").exists():
        put_comparison(outside / "outside")
        os.rename(outside / "outside" / "comparisons", outside / "comparisons")
    (identity,) = (path.stem for path in (outside / "comparisons").glob("*.json"))
    for each in (identity, comparison):
        status, _, body = ask(f"/kontext/compare/{run}/{each}{part}")
        assert status in (400, 404), body
        assert b"step 500" not in body


@pytest.mark.parametrize(
    "identity",
    ["..", "%2e%2e%2f%2e%2e%2frun", "..%5c", "%00", "0123456789%00", "0123456789.json",
     "ABCDEF0123", "0123456789%0a", "%2fetc%2fpasswd", "0" * 11, "*", "%ff"],
)  # fmt: skip
@pytest.mark.parametrize("part", ["", "/manifest", "/cell/0/0"])
def test_only_names_of_comparisons_are_opened(ask, home, identity, part):
    run = home.rpartition("/")[0]
    assert ask(f"{run}/{identity}{part}")[0] in (400, 404)


@pytest.mark.parametrize(
    "place",
    ["3/0", "0/6", "-1/0", "0/-1", "0/x", "..%2f0/0", "0/..%2f..%2fvotes.jsonl", "0", "9999999/0",
     "0/0/..", "%d9%a1/0"],
)  # fmt: skip
def test_only_cells_are_opened(ask, home, place):
    status, _, body = ask(f"{home}/cell/{place}")
    assert status == 404 and b"PNG" not in body


@pytest.mark.parametrize("file", ["..%2f..%2f__init__.py", "%2e%2e/viewer.js", "viewer.js", "."])
def test_only_the_pages_own_files_are_opened(ask, file):
    assert ask(f"/kontext/web/viewer/{file}")[0] == 404
    assert ask(f"/kontext/web/docs/{file}")[0] == 404


@pytest.fixture
def secret(tmp_path) -> Path:
    path = tmp_path / "secret.png"
    Image.new("RGB", (8, 8), "red").save(path)
    return path


def test_links_that_lead_out_of_the_runs_are_not_followed(ask, runs, tmp_path, comparison):
    identity = put_comparison(tmp_path / "elsewhere")
    try:
        (runs / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    except OSError:
        pytest.skip("this system lets no one make links")
    assert ask(f"/kontext/compare/linked/{identity}/manifest")[0] == 404


@pytest.mark.parametrize("how", ["link", "above", "absolute", "other kind"])
def test_cells_that_lead_out_of_their_run_are_not_shown(ask, runs, secret, how, tmp_path):
    folder = runs / f"tampered {how}"
    identity = put_comparison(folder)
    manifest = folder / "comparisons" / f"{identity}.json"
    content = json.loads(manifest.read_text("utf-8"))
    if how == "link":
        place = folder / "samples" / "0-500.png"
        place.unlink()
        try:
            place.symlink_to(secret)
        except OSError:
            pytest.skip("this system lets no one make links")
    else:
        above = f"../{RUN}/samples/0-500.png"
        paths = {"above": above, "absolute": str(secret), "other kind": "scores/scores.json"}
        content["cells"][0][2] = paths[how]
    manifest.write_text(json.dumps(content), "utf-8")
    address = f"/kontext/compare/{quote(folder.name)}/{identity}"
    assert ask(f"{address}/manifest")[0] == 200
    status, _, body = ask(f"{address}/cell/0/2")
    assert status == 404 and b"PNG" not in body
    assert Image.open(io.BytesIO(ask(f"{address}/cell/0/3")[2])).size == (128, 96)


# ---- broken files ----------------------------------------------------------------------------

NO_JSON = (b"", b"\0" * 4000, b"[" * 100_000, b"\xff\xfe{", b"{}", b"null", b'[{"title": 1}]')
NO_TABLE: dict[str, dict] = {
    "no rows": {"rows": []},
    "a number as title": {"title": 5},
    "rows of numbers": {"rows": [1, 2, 3]},
    "a column more": {"columns": [{"kind": "base", "item": "x", "label": ""}]},
    "a kind that is none": {"columns": [{"kind": "x", "item": "x", "label": ""}] * 6},
    "cells of numbers": {"cells": [[1] * 6] * 3},
    "cells of nothing": {"cells": [[], [], []]},
}
NO_PATH = {"long": "samples/" + "x" * 5000 + ".png", "nul": "samples/\0.png"}


@pytest.fixture
def broken(ask, runs):
    """A function: spoil a comparison, and give the answers of everything that shows it."""

    def answers(change):
        folder = runs / "broken"
        shutil.rmtree(folder, ignore_errors=True)
        manifest = folder / "comparisons" / f"{put_comparison(folder)}.json"
        change(folder, manifest)
        address = f"/kontext/compare/broken/{manifest.stem}"
        parts = ("", "/manifest", "/cell/0/2", "/pair", "/votes")
        return {part: ask(address + part) for part in parts}

    return answers


@pytest.mark.parametrize("content", [*NO_JSON, *NO_TABLE], ids=lambda content: str(content)[:20])
def test_a_broken_manifest_is_named(broken, content):
    def change(folder, manifest):
        if isinstance(content, str):
            spoilt = json.loads(manifest.read_text("utf-8")) | NO_TABLE[content]
            manifest.write_text(json.dumps(spoilt), "utf-8")
        else:
            manifest.write_bytes(content)

    for status, _, body in broken(change).values():
        assert status == 404 and b".json is damaged" in body and b"Run Compare" in body


@pytest.mark.parametrize("path", NO_PATH)
def test_a_picture_whose_path_is_none_is_named(broken, path):
    def change(folder, manifest):
        content = json.loads(manifest.read_text("utf-8"))
        content["cells"][0][2] = NO_PATH[path]
        manifest.write_text(json.dumps(content), "utf-8")

    found = broken(change)
    assert found["/cell/0/2"][0] == 404 and b"is not inside" in found["/cell/0/2"][2]
    assert found["/manifest"][0] == found["/pair"][0] == 200


@pytest.mark.parametrize("spoilt", [b"", b"{", b'{"best": {}}', b"\0\0", b'{"checkpoints": [1]}'])
def test_broken_scores_are_named(broken, spoilt):
    found = broken(lambda folder, _: (folder / "scores" / "scores.json").write_bytes(spoilt))
    status, _, body = found["/manifest"]
    assert status == 404 and b"scores.json is damaged" in body and b"Run Score" in body
    assert found["/cell/0/2"][0] == found["/votes"][0] == 200


def test_of_broken_votes_the_good_ones_count(broken):
    items = {"left": "000001f4 1", "right": "000003e8 1", "row": "row0"}
    good = json.dumps({**items, "choice": "left"}).encode()
    bad = [json.dumps({**items, "choice": choice}).encode() for choice in ("up", 1, ["left"], None)]
    bad += [b"\0" * 500, b"[]", b"7", b'{"undo": 0}', b"[" * 50_000, b"\xff", good[:-5]]
    text = b"\n".join(line for each in bad for line in (good, each))
    found = broken(lambda folder, _: (folder / "votes.jsonl").write_bytes(text))
    status, _, body = found["/votes"]
    assert status == 200 and json.loads(body)["votes"] == len(bad)
    assert found["/pair"][0] == 200
