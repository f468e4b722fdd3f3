"""The captioning graphs name models that a user has; here they are tiny ones."""

import pytest

from ..captioning.stand_ins import put_captioners


@pytest.fixture(scope="session", autouse=True)
def captioners(server) -> None:
    put_captioners(server.base / "models")
