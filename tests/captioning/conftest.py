"""Tiny captioners, built when first asked for and kept for the whole test session."""

from collections.abc import Callable
from pathlib import Path

import comfy.sd
import pytest

from . import tiny_models


@pytest.fixture(scope="session")
def tiny_captioner(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of an over-fitted model of the named family."""
    root = tmp_path_factory.mktemp("models") / "LLM"
    built: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in built:
            built[name] = tiny_models.build(name, root / name)
        return built[name]

    return folder


@pytest.fixture(scope="session")
def core_clip() -> comfy.sd.CLIP:
    """A Qwen3-VL as ComfyUI loads it, from 0.30 on."""
    pytest.importorskip("comfy.text_encoders.qwen3vl")
    from . import tiny_core_vlm

    return tiny_core_vlm.build()
