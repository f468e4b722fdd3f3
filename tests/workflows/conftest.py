"""The graphs name models that a user has; here they are tiny ones."""

import shutil

import pytest

from ..captioning.stand_ins import put_captioners
from ..families.miniatures import put_models


@pytest.fixture(scope="session", autouse=True)
def models(server) -> None:
    put_captioners(server.base / "models")
    put_models(server.base / "models")


@pytest.fixture
def set_up(set_up, server):
    """With the same models, and the LoRAs that were trained, in each front end's server."""
    if set_up.server is not server:
        for folder in ("models", "output/loras"):
            (server.base / folder).mkdir(exist_ok=True)
            shutil.copytree(server.base / folder, set_up.server.base / folder, dirs_exist_ok=True)
    return set_up
