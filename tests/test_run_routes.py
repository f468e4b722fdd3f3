"""The routes of runs in the real server: the list, a run's page, deleting and keeping."""

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from kontext.trainer.runs.run import Run

from .addresses import OUTSIDE
from .finished import GRAPH, SAVED, put_run


@pytest.fixture(scope="module")
def output(server) -> Path:
    return Path(server.base) / "output"


@pytest.fixture
def send(ask, server):
    """A function: a POST as the pack's pages send it."""

    def post(path, content, **changes):
        headers = {"Origin": server.url, "Content_Type": "application/json", **changes}
        return ask(path, "POST", json.dumps(content).encode(), **headers)

    return post


@pytest.fixture(scope="module")
def rings(output) -> str:
    return put_run(output)


def test_a_run_in_the_list_and_on_its_page(ask, rings):
    (run,) = (each for each in json.loads(ask("/kontext/runs/list")[2]) if each["name"] == "rings")
    assert (run["state"], run["done"], run["steps"]) == ("finished", 1500, 1500)
    assert run["best"] == 1500 and -25 < run["change"] < -15
    assert run["thumbnail"] == "step_001500.png" and run["size"] > 1000

    about = json.loads(ask("/kontext/run/rings/facts")[2])
    assert [row["step"] for row in about["rows"] if row["best"]] == [1500]
    assert about["samples"] == [f"step_{step:06d}.png" for step in SAVED]
    assert about["pairs"] == [
        {"stem": "ring & co", "caption": "Polish <b>it</b>.", "split": "train"}
    ]
    assert about["chart"]["step"] == 1500 and about["chart"]["sample"] == "step_001500.png"
    assert ask("/kontext/run/rings/sample/step_000500.png")[1].get_content_type() == "image/png"
    assert json.loads(ask("/kontext/run/rings/graph")[2]) == GRAPH


def test_a_page_is_answered_in_its_own_language(ask, rings):
    """Whatever ComfyUI's page is in: others may have the server's pages open, too."""
    for language, name, value in (("en", "timesteps", "balanced"), ("zh", "时间步分布", "均衡")):
        about = json.loads(ask("/kontext/run/rings/facts", Kontext_Language=language)[2])
        assert [name, value, False, "basic"] in about["settings"]
    refused = ask("/kontext/run/none/facts", Kontext_Language="zh")[2].decode()
    assert "没有" in refused


def test_a_broken_run_does_not_hide_the_others(ask, output):
    put_run(output, "whole")
    for name, text in (("no yaml", "steps: ["), ("empty", ""), ("other", "config: {steps: many}")):
        (output / "kontext_runs" / name).mkdir(parents=True, exist_ok=True)
        (output / "kontext_runs" / name / "run.yaml").write_text(text, "utf-8")
        assert ask(f"/kontext/run/{quote(name)}/facts")[0] in (404, 422)
    listed = {each["name"]: each["state"] for each in json.loads(ask("/kontext/runs/list")[2])}
    assert listed["whole"] == "finished"
    assert {listed[name] for name in ("no yaml", "empty", "other")} == {"damaged"}


def test_a_deleted_run_lies_in_the_trash_whole(send, ask, output):
    put_run(output, "unwanted")
    assert send("/kontext/run/unwanted/delete", {"name": "other"})[0] == 400
    assert send("/kontext/run/unwanted/delete", {"name": "unwanted"}, Origin="http://a.b")[0] == 403
    assert ask("/kontext/run/unwanted")[0] == 200
    files = {path.name for path in (output / "loras" / "unwanted").iterdir()}
    assert len(files) == len(SAVED)

    status, _, body = send("/kontext/run/unwanted/delete", {"name": "unwanted"})
    trash = output / json.loads(body)["trash"]
    assert status == 200 and ask("/kontext/run/unwanted")[0] == 404
    assert {path.name for path in (trash / "loras" / "unwanted").iterdir()} == files
    assert (trash / "kontext_runs" / "unwanted" / "log.jsonl").is_file()


def test_a_run_that_is_being_trained_is_not_deleted(send, ask, output):
    put_run(output, "busy")
    (output / "kontext_runs" / "busy" / "lock.json").write_text("{}", "utf-8")
    assert send("/kontext/run/busy/delete", {"name": "busy"})[0] == 409
    assert ask("/kontext/run/busy")[0] == 200


def test_keeping_from_the_viewer_makes_a_lora_that_loaders_list(send, server, rings):
    place = f"/kontext/compare/rings/{rings}/keep"
    assert send(place, {"column": 0, "name": "polish"})[0] == 409  # the picture before
    for wrong in ({"column": 99, "name": "a"}, {"column": 3}, {"column": True, "name": "a"}):
        assert send(place, wrong)[0] == 400
    for name in ("../polish", "", "con", "a/b"):
        assert send(place, {"column": 3, "name": name})[0] == 409
    assert send(place, {"column": 3, "name": "polish"}, Origin="http://a.b")[0] == 403
    assert "polish.safetensors" not in server.loras()

    status, _, body = send(place, {"column": 3, "name": "polish"})
    assert (status, json.loads(body)) == (200, {"file": "polish.safetensors"})
    assert "polish.safetensors" in server.loras()
    assert send(place, {"column": 2, "name": "polish"})[0] == 409  # another one has the name


def test_a_damaged_checkpoint_is_not_kept_from_the_viewer(send, server, output, rings):
    """One flipped bit in the weights; nothing is copied, and no checkpoint pinned."""
    run = Run("rings", output)
    path, pinned = run.checkpoints()[0].path, run.pinned()
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 16]) + whole[-8:])
    status, _, body = send(f"/kontext/compare/rings/{rings}/keep", {"column": 2, "name": "spoilt"})
    assert status == 409 and f"{path} is damaged" in body.decode()
    assert "spoilt.safetensors" not in server.loras() and run.pinned() == pinned
    path.write_bytes(whole)


@pytest.mark.parametrize("file", ["..%2frun.yaml", "run.yaml", "step_1.png%00", "step_9999.png"])
def test_only_samples_of_a_run_are_opened(ask, rings, file):
    assert ask(f"/kontext/run/rings/sample/{file}")[0] == 404


@pytest.mark.parametrize("run", OUTSIDE, ids=lambda run: run[:30])
def test_only_names_of_runs_have_a_page(ask, run):
    for part in ("", "/facts", "/chart", "/graph", "/sample/step_000500.png"):
        assert ask(f"/kontext/run/{run}{part}")[0] in (400, 404)


@pytest.mark.parametrize(
    "spoilt", [b"\x00" * 50, b"[1]", b"{}", b'{"columns": 3}', b"\xff{", b"null"]
)
@pytest.mark.parametrize("file", ["comparisons", "scores/scores.json", "votes.jsonl", "log.jsonl"])
def test_spoilt_files_are_named_and_never_500(ask, output, file, spoilt):
    folder = output / "kontext_runs" / f"spoilt {file.replace('/', ' ')} {spoilt[:3].hex()}"
    identity = put_run(output, folder.name)
    path = folder / file
    path = next(path.glob("*.json")) if path.is_dir() else path
    path.write_bytes(spoilt)
    for part in ("", "/manifest", "/cell/0/0", "/pair", "/votes"):
        assert ask(f"/kontext/compare/{quote(folder.name)}/{identity}{part}")[0] < 500
    for part in ("", "/facts", "/chart"):
        assert ask(f"/kontext/run/{quote(folder.name)}{part}")[0] < 500
    assert ask("/kontext/runs/list")[0] == 200


@pytest.mark.parametrize(
    "address", ["/kontext/runs/list", "/kontext/run/rings/facts", "/kontext/runs"]
)
def test_other_sites_do_not_see_runs(ask, address):
    assert ask(address, Sec_Fetch_Site="cross-site")[0] == 403
