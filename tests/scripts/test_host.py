"""Setting up a ComfyUI: what the user is told when it cannot be done."""

import collections
import sys
from pathlib import Path

import pytest

import host

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("NewConnectionError: [Errno -3] Temporary failure in name resolution", "network or proxy"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left", "disk"),
        ("the requirement pip>=25.1 (from versions: none)", "network or proxy"),
        ("ERROR: No matching distribution found for torch==2.11.0", "use Python 3.10 to 3.13"),
        ("error: something else\nand its reason", "and its reason"),
    ],
)
def test_a_failed_installation_says_what_to_do(words, told):
    assert told in str(host.pip_failure(words))


def test_a_disk_that_is_too_small_is_named_before_anything_is_downloaded(monkeypatch, tmp_path):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(host, "HOME", tmp_path / ".host")
    monkeypatch.setattr(host.shutil, "disk_usage", lambda path: usage(10, 9, 1_000_000_000))
    with pytest.raises(host.SetupError, match=r"Only 1\.0 GB are free .* free some space"):
        host.find_or_set_up(None, None)
    assert not (tmp_path / ".host").exists()


def test_a_folder_without_comfyui_is_refused(tmp_path):
    with pytest.raises(host.SetupError, match="holds no main.py"):
        host.find_or_set_up(tmp_path, None)


def test_the_portable_build_is_recognised(tmp_path):
    (tmp_path / "ComfyUI").mkdir()
    (tmp_path / "ComfyUI" / "main.py").touch()
    with pytest.raises(host.SetupError, match="There is no Python at"):
        host.find_or_set_up(tmp_path, tmp_path / "python.exe")


def test_torch_and_torchaudio_that_do_not_fit_are_named(monkeypatch, tmp_path):
    """The words torchaudio 2.11 fails with beside a torch built for another CUDA."""
    (tmp_path / "main.py").touch()
    clash = "RuntimeError: Detected that PyTorch and TorchAudio were compiled with different CUDA"
    monkeypatch.setattr(host, "PROBE", f"import json; print(json.dumps({{'clash': {clash!r}}}))")
    with pytest.raises(host.SetupError, match=r"(?s)do not fit together .*torch==2\.11\.0"):
        host.find_or_set_up(tmp_path, Path(sys.executable))


def test_the_copy_in_custom_nodes_is_what_the_registry_ships(tmp_path):
    pack = host.copy_pack(tmp_path)
    names = {path.name for path in pack.iterdir()}
    assert {"__init__.py", "nodes", "web", "workflows", "sample_pairs", "models"} <= names
    assert not names & {"tests", "scripts", ".git", ".host"}


def test_the_manager_installs_what_the_registry_lists():
    """ComfyUI-Manager reads requirements.txt, the registry pyproject.toml."""
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = pyproject.partition("\ndependencies = [")[2].partition("]")[0]
    listed = [line.split('"')[1] for line in block.splitlines() if '"' in line]
    requirements = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert listed == [line.partition("#")[0].strip() for line in requirements]
