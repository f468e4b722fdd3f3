"""What a client of a real server that others can reach can read and write.

The server listens on this machine alone; its owner's list says that it counts as shared.
"""

import hashlib
import http.client
import json
import os
import re
import sys
import urllib.request
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import numpy as np
import pytest
from aiohttp import web
from kontext import routes
from kontext.trainer.host import sharing
from PIL import Image

import api_form
import driver

SECRET = "SECRET"  # stands in the name and in the text of every file outside

# Every text that a node takes. A new one has to be put in its place here.
FOLDERS = {
    "KontextLoadPairs": {"control_folder", "target_folder", "mask_folder"},
    "KontextLoadPictures": {"folder"},
    "KontextPreparePairs": {"output_folder"},
    "KontextSavePair": {"folder"},
    "KontextUnpairedTargets": {"folder", "pairs_folder"},
}
NAMES = {  # of files in a folder that is given
    "KontextDescribePairs": {"data_set", "listing", "numbers"},
    "KontextEditCaptions": {"undo"},
    "KontextSavePair": {"stem"},
    "KontextTrainLora": {"name"},
    "KontextTrySettings": {"name"},
    "KontextSaveCheckpoint": {"name"},
    "KontextPickCheckpoint": {"name", "choice"},
    "KontextCompareCheckpoints": {"loras"},
    "KontextScoreCheckpoints": {"loras"},
}
WORDS = set(
    "default_caption captions caption instruction trigger suffix template descriptions prefix "
    "find replace remove_tags remove_phrases keep_only filter_text own_question beginning extra "
    "exclude pattern resolutions preserve_prompts prompts prompt off_task axes strengths seeds "
    "sampling_steps guidance checkpoints pin more author resolution targets".split()
) | {"KontextDegrade stem"}


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(values).save(path, "PNG")
    return path


def digests(folder: Path) -> dict[str, str]:
    """Every file below `folder` by its content and time."""
    return {
        f"{path.relative_to(folder)} {path.stat().st_mtime_ns}": hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.stat().st_size
    }


@pytest.fixture(scope="module")
def outside(tmp_path_factory) -> Path:
    """Somebody's files on the same machine."""
    folder = tmp_path_factory.mktemp("home") / "alice"
    for side in ("before", "after"):
        for number in range(2):
            stem = f"{SECRET}_{number}"
            picture(folder / side / f"{stem}.png", number)
            (folder / side / f"{stem}.txt").write_text(f"{SECRET} text", encoding="utf-8")
    (folder / "passwords.txt").write_text(f"{SECRET} word", encoding="utf-8")
    (folder / "accounts.csv").write_text(f"{SECRET};name\n1;2\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def shared_server(server):
    """The server, while its owner says that others can reach it; `lent` is on his list."""
    lent = server.base.parent / "lent to all"
    for side in ("before", "after"):
        picture(lent / side / "ring.png", len(side))
        picture(server.base / "input" / "mine" / side / "ring.png", 10 + len(side))
    owners = server.base / "user" / sharing.OWNERS_LIST
    owners.parent.mkdir(exist_ok=True)
    owners.write_text(json.dumps({"folders": [str(lent)], "shared": "yes"}), encoding="utf-8")
    server.lent = lent
    yield server
    owners.unlink()


@pytest.fixture(scope="module")
def ask(shared_server):
    """A function: run a graph as a client; what it is answered, and whether it went well."""
    nodes = shared_server.get("/object_info")

    def send(**graph) -> tuple[bool, str]:
        prompt = {
            name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in graph.items()
        }
        try:
            entry = shared_server.run(api_form.with_defaults(prompt, nodes))
        except driver.PromptError as error:
            return False, str(error)
        return True, json.dumps(entry["outputs"], ensure_ascii=False)

    return send


def upload(server, name: str, content: bytes) -> None:
    """As any client may: into the input folder."""
    boundary = uuid4().hex
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'
    )
    body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    urllib.request.urlopen(
        urllib.request.Request(f"{server.url}/upload/image", body, kind), timeout=60
    ).read()


def loading(control: str, target: str = "") -> tuple[str, dict]:
    inputs = {"control_folder": control, "target_folder": target, "holdout": 0.0}
    return "KontextLoadPairs", {**inputs, "unmatched": "skip"}


def captioning(**inputs) -> tuple[str, dict]:
    given = {"pairs": ["pairs", 0], "instruction": "taken over", "existing": "replace"}
    return "KontextCaptionPairs", {**given, "save_txt": True, "save_tables": True, **inputs}


def test_every_text_that_a_node_takes_is_known(server):
    texts = {
        name: {
            key
            for group in ("required", "optional")
            for key, (kind, *_) in node["input"].get(group, {}).items()
            if kind == "STRING"
        }
        for name, node in server.get("/object_info").items()
        if name.startswith("Kontext")
    }
    for name, keys in texts.items():
        paths = FOLDERS.get(name, set()) | NAMES.get(name, set())
        words = {key for key in keys if key in WORDS or f"{name} {key}" in WORDS}
        assert keys - paths - words == set(), f"{name}: folder, name or words?"
        assert paths <= keys and not paths & words


def hostile_folders(outside: Path, server) -> tuple[list[str], list[str]]:
    """Ways out of ComfyUI's folders, and texts that may also be odd names inside of them."""
    base = server.base / "input"
    back = os.path.relpath(outside, base)
    texts = [
        str(outside),
        f"{outside}/before",
        f'"{outside}/after"',
        f"{outside}/accounts.csv",
        f"{outside}/passwords.txt",
        f"{outside}/not there",
        back,
        f"mine/../{back}",
        f"{base}/mine/../../../{outside.parent.name}/alice",
        "..",
        "../user",
        "../custom_nodes",
        "../models",
        f"{base}_twin",
        "~",
        "~root",
        "~nobody_of_this_name/x",
        "/",
        "/etc",
        "/proc/self",
        "/dev/stdin",
        "//192.0.2.1/share",
        "sample_pairs/../..",
        "mine\0/etc",
    ]
    odd = [f"mine/before|{outside}/before", "\\\\192.0.2.1\\share", "\\\\?\\C:\\Users"]
    odd += ["C:\\Windows", "file:///etc", "mine/before\n../../x", "x" * 5000, "mine/" + "x" * 300]
    if sys.platform != "win32":
        for name, target in {"out": outside, "before_link": outside / "before"}.items():
            path = base / "mine" / name
            if not path.is_symlink():
                path.symlink_to(target)
        texts += ["mine/out", "mine/out/before", "mine/before_link"]
    return texts, odd


def test_no_folder_of_others_is_read_or_written(shared_server, ask, outside):
    """Every folder that a node is given, by every way out."""
    before, tried = digests(outside), 0
    mine = {"pairs": loading("mine/before", "mine/after")}
    flat = ("EmptyImage", {"width": 64, "height": 64, "batch_size": 1, "color": 1})
    texts, odd = hostile_folders(outside, shared_server)
    for text in texts + odd:
        graphs = {
            ("KontextLoadPairs", "control_folder"): {
                "pairs": loading(text, "mine/after"), "out": captioning()
            },
            ("KontextLoadPairs", "target_folder"): {
                "pairs": loading("mine/before", text), "out": captioning()
            },
            ("KontextLoadPairs", "mask_folder"): {
                "pairs": ("KontextLoadPairs", {**loading("mine/before", "mine/after")[1],
                                               "mask_folder": text}),
                "out": captioning(),
            },
            ("KontextLoadPictures", "folder"): {
                "pairs": ("KontextLoadPictures", {"folder": text}), "out": captioning()
            },
            ("KontextPreparePairs", "output_folder"): {
                **mine,
                "out": ("KontextPreparePairs", {
                    "pairs": ["pairs", 0], "output_folder": text, "overwrite": True}),
            },
            ("KontextSavePair", "folder"): {
                "a": flat,
                "b": flat,
                "out": ("KontextSavePair", {
                    "control": ["a", 0], "target": ["b", 0], "folder": text, "overwrite": True,
                    "stem": f"{SECRET}_0", "caption": "taken over"}),
            },
            ("KontextUnpairedTargets", "folder"): {
                "out": ("KontextUnpairedTargets", {"folder": text})
            },
            ("KontextUnpairedTargets", "pairs_folder"): {
                "out": ("KontextUnpairedTargets", {"folder": "mine/after", "pairs_folder": text})
            },
        }  # fmt: skip
        assert {node for node, _ in graphs} == set(FOLDERS)
        assert {(n, f) for n in FOLDERS for f in FOLDERS[n]} == set(graphs)
        for place, graph in graphs.items():
            went_well, answer = ask(**graph)
            assert not went_well or text in odd, (place, text)
            assert SECRET not in answer.replace(text, ""), (place, text)
            assert "Traceback" not in answer and "Errno" not in answer, (place, text, answer)
            tried += 1
    assert tried > 150
    assert digests(outside) == before


def test_what_is_there_and_what_is_not_are_answered_alike(ask, outside):
    answers = {
        ask(pairs=loading(f"{outside}/{name}", "mine/after"), out=captioning())[1].replace(name, "")
        for name in ("before", "nothing", "accounts.csv", "accounts.zip")
    }
    assert len(answers) == 1 and "may not be read" in answers.pop()


def test_a_table_names_no_file_of_others(shared_server, ask, outside):
    """The targets are texts and pictures of somebody else, few, and so many that not all are
    opened."""
    before = digests(outside)
    foreign = [
        outside / "passwords.txt",
        outside / "accounts.csv",
        outside / f"after/{SECRET}_0.png",
    ]
    back = os.path.relpath(outside, shared_server.base / "input")
    foreign += [Path(back) / "passwords.txt", Path("mine") / ".." / back / "passwords.txt"]
    good = shared_server.base / "input/mine/after/ring.png"
    for number, target in enumerate(foreign):
        for rows in (1, 501):
            lines = [{"target": str(good), "control": str(good)} for _ in range(rows)]
            for key in ("target", "control", "mask"):
                lines[rows // 2 * 1] = {"target": str(good), "control": str(good), key: str(target)}
                content = "\n".join(map(json.dumps, lines)).encode()
                upload(shared_server, f"t{number}_{rows}_{key}.jsonl", content)
                name = f"t{number}_{rows}_{key}.jsonl"
                went_well, answer = ask(pairs=loading(name), out=captioning())
                assert not went_well and "may not be read" in answer, (target, rows, key)
                assert SECRET not in answer.replace(str(target), "")
    assert digests(outside) == before


def test_a_caption_is_written_beside_pictures_only(shared_server, ask):
    """Inside of the input folder too: a text that a table calls a target keeps its neighbour."""
    base = shared_server.base / "input" / "mine"
    (base / "plan.csv").write_text("my table", encoding="utf-8")
    (base / "plan.txt").write_text("my text", encoding="utf-8")
    (base / "fake.png").write_text("no picture", encoding="utf-8")
    (base / "fake.txt").write_text("my text", encoding="utf-8")
    picture(base / "hidden.txt", 3)
    for name in ("plan.csv", "plan.txt", "fake.png", "hidden.txt"):
        before = digests(base)
        content = json.dumps({"target": f"mine/{name}", "control": "mine/after/ring.png"}).encode()
        upload(shared_server, "names.jsonl", content)
        went_well, answer = ask(
            pairs=("KontextLoadPairs", {**loading("names.jsonl")[1], "preview": 0}),
            out=captioning(),
        )
        assert not went_well and "picture" in answer, (name, answer)
        assert digests(base) == before


def test_the_owners_folders_are_read_and_captioned(shared_server, ask):
    lent = shared_server.lent
    went_well, _ = ask(pairs=loading(f"{lent}/before", f"{lent}/after"), out=captioning())
    assert went_well and (lent / "after/ring.txt").read_text("utf-8") == "taken over"
    went_well, answer = ask(
        pairs=loading(f"{lent}/before", f"{lent}/after"),
        out=("KontextPreparePairs", {"pairs": ["pairs", 0], "output_folder": f"{lent}/cut"}),
    )
    assert not went_well and "may not be written" in answer
    assert not (lent / "cut").exists()


def test_the_shipped_pictures_may_be_read(ask):
    pairs = loading("sample_pairs/before", "sample_pairs/after")
    assert ask(pairs=pairs, out=("KontextCheckPairs", {"pairs": ["pairs", 0]}))[0]


def test_names_do_not_lead_out_of_their_folder(shared_server, ask, outside):
    base, before = shared_server.base, digests(outside)
    everything = {path for path in base.rglob("*") if "temp" not in path.parts}
    back = os.path.relpath(outside, base / "output" / "loras")
    flat = ("EmptyImage", {"width": 64, "height": 64, "batch_size": 1, "color": 1})
    model = {"model": ("KontextDemoModel", {}), "pairs": loading("mine/before", "mine/after")}
    loaded = {"model": ["model", 0], "clip": ["model", 1], "vae": ["model", 2]}
    for name in (
        f"{back}/x",
        str(outside / "x"),
        "../x",
        "..",
        "a/b",
        "a\\b",
        "C:x",
        "nul",
        "a\0b",
    ):
        graphs = {
            "KontextSavePair": {
                "a": flat,
                "b": flat,
                "out": ("KontextSavePair", {"control": ["a", 0], "target": ["b", 0], "stem": name}),
            },
            "KontextEditCaptions": {
                "pairs": model["pairs"],
                "out": ("KontextEditCaptions", {"pairs": ["pairs", 0], "undo": name}),
            },
            "KontextTrainLora": {
                **model,
                "out": ("KontextTrainLora", {**loaded, "pairs": ["pairs", 0], "name": name}),
            },
            "KontextCompareCheckpoints": {
                **model,
                "out": (
                    "KontextCompareCheckpoints",
                    {**loaded, "pairs": ["pairs", 0], "loras": name},
                ),
            },
            "KontextScoreCheckpoints": {
                **model,
                "out": (
                    "KontextScoreCheckpoints",
                    {**loaded, "pairs": ["pairs", 0], "loras": name},
                ),
            },
        }
        for node, graph in graphs.items():
            went_well, answer = ask(**graph)
            assert not went_well and SECRET not in answer, (node, name)
    assert digests(outside) == before
    assert {path for path in base.rglob("*") if "temp" not in path.parts} == everything


def test_names_of_saved_loras_do_not_lead_out(shared_server, ask, outside):
    before = digests(outside)
    run = {
        "model": ("KontextDemoModel", {}),
        "pairs": loading("mine/before", "mine/after"),
        "quick": ("KontextTrainingSettings", {"more": "preview_steps: 0"}),
        "train": ("KontextTrainLora", {
            "model": ["model", 0], "clip": ["model", 1], "vae": ["model", 2], "rank": 2,
            "pairs": ["pairs", 0], "settings": ["quick", 0], "name": "access", "steps": 1}),
    }  # fmt: skip
    back = os.path.relpath(outside, shared_server.base / "output" / "loras")
    for name in (f"{back}/x", str(outside / "x"), "../x", "a/b", "a\\b", "nul"):
        for node in ("KontextSaveCheckpoint", "KontextPickCheckpoint"):
            chosen = {"run": ["train", 0], "name": name}
            chosen |= {"choice": "last"} if node == "KontextPickCheckpoint" else {}
            went_well, answer = ask(**run, out=(node, chosen))
            assert not went_well and "name" in answer, (node, name, answer)
        went_well, answer = ask(
            **run, out=("KontextPickCheckpoint", {"run": ["train", 0], "choice": name})
        )
        assert not went_well and "no checkpoint" in answer
    assert digests(outside) == before


def test_no_page_is_addressed_by_a_path(shared_server, outside):
    """Every route of the pack, every part of its address that a client chooses."""
    table = web.RouteTableDef()
    routes.register(table)
    addresses = [(route.method, route.path) for route in table]
    assert len(addresses) >= 7
    hostile = ["..", "../..", "../../../etc/passwd", str(outside / "passwords.txt")]
    hostile += [
        "..\\..",
        "C:\\x",
        "\\\\192.0.2.1\\x",
        "a\0b",
        "nul",
        ":loras",
        "x" * 5000,
        "%2e%2e",
    ]
    asked = 0
    for method, address in addresses:
        for part in re.findall(r"\{[^}]*\}?\}", address):
            for text in hostile:
                if ":" in part and len(text) > 100:
                    continue  # matches no address of ours, and ComfyUI fails on it
                filled = address.replace(part, quote(text, safe=""))
                filled = re.sub(r"\{[^}]*\}?\}", "1", filled)
                connection = http.client.HTTPConnection("127.0.0.1", shared_server.port, timeout=60)
                headers = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}
                connection.request(method, filled, "{}" if method == "POST" else None, headers)
                reply = connection.getresponse()
                content = reply.read()
                connection.close()
                assert 400 <= reply.status < 500, (method, filled, reply.status)
                assert SECRET.encode() not in content
                asked += 1
    assert asked > 100


def test_the_owners_list_is_out_of_a_clients_reach(shared_server):
    owners = shared_server.base / "user" / sharing.OWNERS_LIST
    before = owners.read_bytes()
    for name in ("../__kontext/folders.yaml", "__kontext/folders.yaml", "folders.yaml"):
        for user in (None, "__kontext", "../__kontext"):
            connection = http.client.HTTPConnection("127.0.0.1", shared_server.port, timeout=60)
            headers = {"comfy-user": user} if user else {}
            address = f"/userdata/{quote(name, safe='')}?overwrite=true"
            connection.request("POST", address, b"shared: no", headers)
            connection.getresponse().read()
            connection.close()
    assert owners.read_bytes() == before
