"""Which paths may be read and written: the rule, and the list of the server's owner."""

from pathlib import Path

import pytest
from kontext.dataset import access
from kontext.dataset.access import Access, AccessError
from kontext.trainer.host import sharing


@pytest.fixture
def places(tmp_path):
    """ComfyUI's input folder, one that was lent, and one of somebody else."""
    for name in ("input/pairs", "lent", "foreign/before", "input_twin"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def link(path: Path, target: Path) -> Path:
    try:
        path.symlink_to(target, target_is_directory=target.is_dir())
    except OSError:
        pytest.skip("this user may not make links")
    return path


@pytest.fixture
def shared(places, monkeypatch):
    rule = Access((places / "input",), (places / "lent",), False, "folders.yaml")
    monkeypatch.setattr(access, "_source", lambda: rule)


@pytest.mark.parametrize(
    "name, read, write",
    [
        ("input", True, True),
        ("input/pairs/a.png", True, True),
        ("input/not/there.png", True, True),
        ("input/pairs/../pairs/a.png", True, True),
        ("lent/a.png", True, False),
        ("lent/../input/a.png", True, True),
        (".", False, False),
        ("input/..", False, False),
        ("input/../foreign/a.png", False, False),
        ("input/pairs/../../../a.png", False, False),
        ("input_twin/a.png", False, False),
        ("foreign", False, False),
        ("foreign/not/there", False, False),
        ("input/a\0.png", False, False),
        ("input/\ud800.png", False, False),
        ("input/" + "戒" * 86, False, False),
        ("input/" + "戒" * 85, True, True),
    ],
)
def test_only_inside_of_the_folders(places, shared, name, read, write):
    path = places / name
    assert access.may_read(path) is read
    for allowed, ask in ((read, access.readable), (write, access.writable)):
        if allowed:
            assert ask(path) == path
        else:
            with pytest.raises(AccessError):
                ask(path)


def test_links_are_followed(places, shared):
    """One that leads out, one that leads from outside in, a chain, a circle."""
    out = link(places / "input/out", places / "foreign")
    chain = link(places / "input/chain", out)
    inward = link(places / "foreign/inward", places / "input")
    within = link(places / "input/within", places / "input/pairs")
    circle = link(places / "input/circle", places / "input/circle")
    refused = [out, out / "before", out / "new", chain, inward, circle / "a"]
    refused += [out / ".." / "foreign", within / ".." / ".." / "foreign"]
    assert [path for path in refused if access.may_read(path)] == []
    assert access.may_read(within / "a.png")


def test_a_folder_of_comfyui_may_itself_be_a_link(places, monkeypatch):
    elsewhere = link(places / "output", places / "foreign")
    monkeypatch.setattr(access, "_source", lambda: Access((elsewhere,), (), False))
    assert access.may_read(elsewhere / "a.png") and access.may_read(places / "foreign/a.png")
    assert not access.may_read(places / "input/a.png")


@pytest.mark.parametrize(
    "name, fit",
    [
        ("C:\\pairs\\ring.png", True),
        ("\\\\nas\\pairs\\ring.png", True),
        ("pairs\\console.png", True),
        ("\\\\?\\C:\\pairs\\ring.png", True),
        ("C:\\pairs\\NUL", False),
        ("pairs\\com1.png", False),
        ("pairs\\LPT¹", False),
        ("pairs\\aux .txt", False),
        ("con\\ring.png", False),
        ("conin$", False),
        ("C:\\pairs\\ring.png:hidden", False),
        ("ring.png::$DATA", False),
    ],
)
def test_devices_and_streams_of_windows_are_no_files(name, fit):
    assert access.names_a_file(Path(name), windows=True) is fit


@pytest.mark.parametrize(
    "given, reached",
    [
        ({"listen": "127.0.0.1"}, False),
        ({"listen": "127.0.0.1,::1"}, False),
        ({"listen": "127.2.3.4, localhost"}, False),
        ({"listen": "0.0.0.0,::"}, True),
        ({"listen": "127.0.0.1,192.168.1.5"}, True),
        ({"listen": "::"}, True),
        ({"listen": "workstation.local"}, True),
        ({"listen": ""}, True),
        ({"enable_cors_header": "*"}, True),
        ({"multi_user": True}, True),
    ],
)
def test_who_can_reach_the_server(monkeypatch, given, reached):
    usual = {"listen": "127.0.0.1", "enable_cors_header": None, "multi_user": False}
    for name, value in {**usual, **given}.items():
        monkeypatch.setattr(sharing.cli_args.args, name, value)
    assert sharing.others_can_reach() is reached


@pytest.mark.parametrize(
    "text, trusted, folders",
    [
        (None, False, 0),
        ("", False, 0),
        (sharing.list_text(), False, 0),
        ("folders: [/data/ring, ~/pairs]", False, 2),
        ("shared: no", True, 0),
        ("shared: 'no'\nfolders:\n- /data", True, 1),
        ("shared: auto", False, 0),
    ],
)
def test_the_owners_list(monkeypatch, tmp_path, text, trusted, folders):
    monkeypatch.setattr(sharing.folder_paths, "get_user_directory", lambda: str(tmp_path))
    monkeypatch.setattr(sharing.cli_args.args, "listen", "0.0.0.0")
    if text is not None:
        (tmp_path / sharing.OWNERS_LIST).parent.mkdir()
        (tmp_path / sharing.OWNERS_LIST).write_text(text, encoding="utf-8")
    found = sharing.access()
    assert (found.trusted, len(found.lent) - 1) == (trusted, folders)


@pytest.mark.parametrize(
    "text",
    ["folders: [ring]", "shared: perhaps", "- a", "folders: 3", "a: [", "\0", "folders: [3]"],
)
def test_a_wrong_list_of_the_owner_allows_nothing(monkeypatch, tmp_path, text):
    monkeypatch.setattr(sharing.folder_paths, "get_user_directory", lambda: str(tmp_path))
    (tmp_path / sharing.OWNERS_LIST).parent.mkdir()
    (tmp_path / sharing.OWNERS_LIST).write_text(text, encoding="utf-8")
    with pytest.raises(AccessError, match="__kontext/folders.yaml"):
        sharing.access()


def test_the_owner_finds_a_list_to_fill_in(monkeypatch, tmp_path):
    """Only where others can reach the server; what he wrote stays."""
    monkeypatch.setattr(sharing.folder_paths, "get_user_directory", lambda: str(tmp_path))
    sharing.write_template()
    assert not [*tmp_path.iterdir()]
    monkeypatch.setattr(sharing.cli_args.args, "listen", "0.0.0.0")
    sharing.write_template()
    file = tmp_path / sharing.OWNERS_LIST
    assert sharing.access().trusted is False
    file.write_text("folders: [/data]", encoding="utf-8")
    sharing.write_template()
    assert file.read_text("utf-8") == "folders: [/data]"
