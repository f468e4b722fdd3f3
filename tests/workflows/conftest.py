"""The graphs name models that a user has; here they are tiny ones."""

import pytest

from ..captioning.stand_ins import put_captioners
from ..families.miniatures import put_models


@pytest.fixture(scope="session", autouse=True)
def models(server) -> None:
    put_captioners(server.base / "models")
    put_models(server.base / "models")
