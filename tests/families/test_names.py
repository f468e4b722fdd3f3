"""Nothing outside trainer/families names a model: a new family is one file, and no search."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("trainer", "evaluation")
NAMES = re.compile(
    r"flux|kontext-dev|qwen|klein|schnell|krea|\bt5|clip_l|double_blocks|single_blocks|"
    r"transformer_blocks|latent_channels == |vec_in_dim|\b16 channels",
    re.IGNORECASE,
)
# What still does, and what about
KNOWN = {
    "trainer/host/comfy.py": "names of ComfyUI's own nodes and tokenizers",
    "trainer/host/demo.py": "the demo model is of one family",
    "trainer/host/files.py": "an example of each file, for a job that names none",
    "trainer/host/training.py": "modules of ComfyUI whose attention and rotation are swapped",
    "trainer/presets.py": "what a preset costs is calculated for one model",
    "trainer/advice.py": "what is advised is calculated for one model",
}
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
FILES = [path for path in FILES if path.parent != ROOT / "trainer" / "families"]


def words(path: Path) -> list[str]:
    """Identifiers and texts of a module, without its docstrings and comments."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
    docs = {id(n.body[0].value) for n in ast.walk(tree) if isinstance(n, documented) and n.body
            and isinstance(n.body[0], ast.Expr)}  # fmt: skip
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            found.append(node.value)
        for field in ("id", "attr", "arg", "name", "module"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                found.append(value)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_names_no_model(path):
    if path.relative_to(ROOT).as_posix() not in KNOWN:
        assert [word for word in words(path) if NAMES.search(word)] == []
