"""The owner's list of folders: read and changed by a page of this machine, by nobody else."""

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request
from kontext.dataset.access import AccessError
from kontext.routes.guard import from_this_machine
from kontext.trainer.host import sharing

import browser
from driver import Server

HERE = {"Host": "127.0.0.1:8188"}


class Peer:
    """A connection from this address."""

    def __init__(self, address):
        self.address = address

    def get_extra_info(self, name, default=None):
        return (self.address, 5) if name == "peername" else default


@pytest.mark.parametrize(
    "peer, headers, own",
    [
        ("127.0.0.1", HERE, True),
        ("127.0.0.1", {"Host": "localhost:8188"}, True),
        ("::1", {"Host": "[::1]:8188"}, True),
        ("::ffff:127.0.0.1", HERE, True),
        ("192.168.1.7", HERE, False),
        ("::ffff:192.168.1.7", HERE, False),
        ("127.0.0.1", {"Host": "studio.example"}, False),
        ("127.0.0.1", {"Host": "localhost.evil.example"}, False),
        ("127.0.0.1", {"Host": "192.168.1.2:8188"}, False),
        ("127.0.0.1", {**HERE, "X-Forwarded-For": "127.0.0.1"}, False),
        ("127.0.0.1", {**HERE, "forwarded": "for=1.2.3.4"}, False),
        ("127.0.0.1", {**HERE, "Via": "1.1 proxy"}, False),
        ("", HERE, False),
    ],
)
def test_who_sits_at_the_machine(peer, headers, own):
    request = make_mocked_request("GET", "/", headers, transport=Peer(peer))
    assert from_this_machine(request) is own


@pytest.fixture
def user(tmp_path, monkeypatch):
    monkeypatch.setattr(sharing.folder_paths, "get_user_directory", lambda: str(tmp_path / "user"))
    return tmp_path


def test_the_list_is_written_and_what_is_no_folder_is_named(user):
    folders = [user / "戒指 & co", user / "a: #b"]
    for folder in folders:
        folder.mkdir()
    sharing.write_folders(["", f'  "{folders[0]}" ', str(folders[1])])
    assert sharing.owners_list() == (tuple(folders), "auto")
    before = sharing.list_file().read_text("utf-8")
    assert "# Folders that may be read" in before
    for wrong in ("pairs", str(user / "gone"), "\0", str(user) + "x" * 5000):
        with pytest.raises(AccessError, match="There is no folder"):
            sharing.write_folders([str(user), wrong])
    assert sharing.list_file().read_text("utf-8") == before


def test_what_the_owner_says_of_the_server_stays(user):
    sharing.write_folders([])
    file = sharing.list_file()
    file.write_text(file.read_text("utf-8").replace("shared: auto", "shared: no"), "utf-8")
    sharing.write_folders([str(user)])
    assert sharing.owners_list() == ((user,), "no")


def test_a_list_that_is_not_understood_is_not_overwritten(user):
    sharing.write_folders([])
    sharing.list_file().write_text("folders: {my: own}\nshared: maybe", "utf-8")
    with pytest.raises(AccessError, match="cannot be understood"):
        sharing.write_folders([str(user)])
    assert "maybe" in sharing.list_file().read_text("utf-8")


@contextmanager
def listed_as_before(server: Server) -> Iterator[Path]:
    """The owner's list, which is as it was afterwards."""
    file = server.base / "user" / sharing.OWNERS_LIST
    before = file.read_bytes() if file.exists() else None
    yield file
    file.unlink(missing_ok=True) if before is None else file.write_bytes(before)


@pytest.fixture
def ask(server):
    """A function: status and body; the list is as it was afterwards."""

    def send(body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        sent = {"Origin": server.url, "Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        content = None if body is None else json.dumps(body)
        connection.request("POST" if body is not None else "GET", "/kontext/folders", content, sent)
        reply = connection.getresponse()
        found = reply.status, reply.read().decode()
        connection.close()
        return found

    with listed_as_before(server):
        yield send


def test_over_the_server(ask, server, tmp_path):
    assert ask()[0] == 200
    status, body = ask({"folders": [str(tmp_path)]})
    assert status == 200 and json.loads(body)["folders"] == [str(tmp_path)]
    for body in ({}, {"folders": "x"}, {"folders": [3]}, []):
        assert ask(body)[0] == 400
    assert ask({"folders": ["/no such place"]})[0] == 404
    for headers in ({"X_Forwarded_For": "1.2.3.4"}, {"Via": "a"}):
        status, body = ask({"folders": []}, **headers)
        assert status == 403 and "on the machine itself" in body
    evil = {"Host": "evil.example", "Origin": "http://evil.example"}
    assert ask({"folders": []}, **evil)[0] == 403
    assert ask({"folders": []}, Origin="http://evil.example")[0] == 403
    file = server.base / "user" / sharing.OWNERS_LIST
    assert json.loads(ask()[1]) == {"folders": [str(tmp_path)], "file": str(file)}

    # behind a proxy that says nothing, this machine is everybody
    file.write_text(file.read_text("utf-8").replace("shared: auto", "shared: yes"), "utf-8")
    assert ask()[0] == ask({"folders": []})[0] == 403


def test_in_the_settings(set_up, tmp_path):
    """Written, saved, found again; a folder that is not there is named."""
    missing, saved = set_up.say("There is no folder", "没有文件夹"), ("Saved", "已保存")
    server = set_up.server
    with listed_as_before(server), browser.front_end(server.url) as opened:
        page = opened.page
        page.evaluate("() => app.extensionManager.command.execute('Comfy.ShowSettingsDialog')")
        category = set_up.say("Kontext LoRA", "Kontext LoRA 训练")
        page.get_by_text(category, exact=True).first.click()
        text = page.locator(".kontext-folders textarea")
        line = page.locator(".kontext-folders [role=status]")
        text.fill(f"{tmp_path}\n/no such place")
        page.locator(".kontext-folders button").click()
        line.filter(has_text="/no such place").wait_for()
        assert missing in line.inner_text()
        text.fill(f"{tmp_path}")
        page.locator(".kontext-folders button").click()
        line.filter(has_text=set_up.say(*saved)).wait_for()
        assert server.get("/kontext/folders")["folders"] == [str(tmp_path)]
