"""The open desks of this process: the nodes and pages of a data set share one."""

from __future__ import annotations

from threading import Lock

from ..dataset.known import Register
from ..dataset.load import PairSource
from ..dataset.pair import Matching
from .desk import Desk

MOST = 4  # data sets kept in memory; 20,000 pairs are 30 MB
_desks: dict[str, Desk] = {}
_opening = Lock()


def desk_of(identity: str, register: Register) -> Desk:
    """The desk of a data set, opened if necessary. AccessError if it is unknown or forbidden."""
    source = register.recall(identity)
    with _opening:
        return _desks.get(identity) or _keep(identity, Desk(source))


def remember(register: Register, source: PairSource, matching: Matching | None) -> str:
    """Register what a node has just read, so that its page need not read it again; the id."""
    identity = register.remember(source)
    with _opening:
        if known := _desks.get(identity):
            known.look_again(matching)
        elif matching and matching.pairs:
            _keep(identity, Desk(register.recall(identity), matching))
    return identity


def _keep(identity: str, desk: Desk) -> Desk:
    _desks[identity] = desk
    while len(_desks) > MOST:
        del _desks[next(iter(_desks))]
    return desk
