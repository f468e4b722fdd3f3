"""Hostile requests to the real server, over every route that the pack adds.

No answer is a 500, and no file is touched, in the server's folders or beside them.
"""

from __future__ import annotations

import http.client
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from conftest import COMFYUI
from ground import Ground, Tally, digests
from pack_tests.finished import put_run

import host as hosts
from driver import Server

RUN = "rings"
PLACES = (
    "..", "%2e%2e", "..%2f..%2f..%2fetc%2fpasswd", "..%5c..%5cwindows", "%2e%2e%2foutside", "%00",
    "ring%00.png", "%ff%fe", "%c0%ae%c0%ae", "%252e%252e%252f", "%2fetc%2fpasswd", "C%3a%5c", "CON",
    "nul.png", "x" * 255, "x" * 5000, "%e6%88%92" * 100, "%20", "%0d%0aSet-Cookie%3a%20a%3db", "-1",
    "999999999999999999999", "1e9", "%7b%7b7*7%7d%7d", "%3cscript%3e", "step_000500.png%2f..",
    "%ed%a0%80", "~root", ":loras", "*", "0x1", "%27%20or%201%3d1", "kontext_trash", "lock.json",
)  # fmt: skip
BODIES: tuple[bytes, ...] = (
    b"", b"{", b"[]", b"null", b"3", b'"text"', b"\xff\xfe\x00", b"[" * 4000, b"{}" * 2000,
    b'{"name": null}', b'{"name": ["rings"]}', b'{"name": "../rings"}', b'{"locale": 7}',
    b'{"row": NaN, "left": 1e400, "right": -1, "choice": {}}', b'{"folders": "/etc"}',
    b'{"folders": ["../../etc", 3, null]}', b'{"row": 9999999999999999999, "undo": "x"}',
    b'{"name": "ring", "step": 99}', b'{"undo": [true]}', b"x" * 100_000,
)  # fmt: skip
HEADERS: tuple[dict[str, str], ...] = (
    {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example"},
    {"Origin": "null"}, {"Content-Type": "text/plain"}, {"Content-Length": "-1"},
    {"Transfer-Encoding": "chunked"}, {"X-HTTP-Method-Override": "DELETE"}, {"Range": "bytes=9-1"},
    {"Content-Type": "application/json; charset=utf-7"},
)  # fmt: skip
PART = r"\{(\w+)(?::(?:[^{}]|\{[^{}]*\})*)?\}"  # of an address, with its pattern
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


def routes() -> list[tuple[str, str]]:
    """Method and address of every route, as the pack registers them."""
    from aiohttp import web
    from kontext import routes as pack

    table = web.RouteTableDef()
    pack.register(table)
    return [(route.method, route.path) for route in table]


def as_pattern(address: str) -> str:
    """What aiohttp takes for this address."""
    plain = re.sub(r"\{\w+\}", r"[^{}/]+", address)
    return re.sub(r"\{\w+:((?:[^{}]|\{[^{}]*\})*)\}", r"(?:\1)", plain)


PATTERNS = [as_pattern(path) for _, path in routes()]


def requests(identity: str) -> Iterator[tuple[str, str, bytes | None, dict[str, str]]]:
    """Method, address, body and headers."""
    known = {"run": RUN, "comparison": identity, "row": "0", "column": "0", "folder": "viewer",
             "file": "viewer.mjs", "step": "500", "set": "0" * 12, "plan": "0" * 32, "number": "0",
             "key": "0" * 12, "side": "target"}  # fmt: skip
    for method, path in routes():
        names = re.findall(PART, path)

        def filled(path: str = path, **changes: str) -> str:
            values = {**known, **changes}
            return re.sub(PART, lambda m: values.get(m[1], "x"), path)

        for name in names:
            for place in PLACES:
                yield method, filled(**{name: place}), b"{}" if method == "POST" else None, {}
        if method == "POST":
            for body in BODIES:
                yield method, filled(), body, {"Content-Type": "application/json"}
        for headers in HEADERS:
            yield method, filled(), b"{}" if method == "POST" else None, headers
        for other in METHODS:
            if other != method:
                yield other, filled(), None, {}
        for query in ("?a=" + "x" * 5000, "?run=..%2f..", "?" + "&".join(["a=1"] * 500)):
            yield method, filled() + query, b"{}" if method == "POST" else None, {}


def taken_by_pack(path: str) -> bool:
    """Whether one of the pack's routes takes an address; all others are ComfyUI's to answer."""
    plain = path.partition("?")[0]
    return any(re.fullmatch(pattern, plain) for pattern in PATTERNS)


def send(server: Server, method: str, path: str, body: bytes | None, headers: dict) -> int:
    """The status; 0 where the server hung up, which is an answer, too."""
    own = {"Origin": server.url, "Sec-Fetch-Site": "same-origin", **headers}
    if body is not None:
        own = {"Content-Type": "application/json", **own}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request(method, path, body, own)
        return connection.getresponse().status
    except (http.client.HTTPException, ConnectionError):
        return 0
    finally:
        connection.close()


def watched(base: Path) -> dict[str, str]:
    """All that must stay as it is: everything but the server's own log, settings and the votes."""
    free = ("server/comfyui.log", "server/user/", "server/custom_nodes/", "votes.jsonl")
    return {path: d for path, d in digests(base).items() if not path.startswith(free[:3])
            and not path.endswith(free[3])}  # fmt: skip


def attack(ground: Ground) -> list[Tally]:
    tally, base = Tally("hostile requests"), ground.place()
    (base / "outside").mkdir()
    (base / "outside" / "secret.png").write_bytes(b"secret")
    here = hosts.Host(Path(COMFYUI), Path(sys.executable), gpu=False)
    with Server(here, base / "server") as server:
        identity = put_run(base / "server" / "output", RUN)
        send(server, "GET", "/kontext/runs/list", None, {})
        before = watched(base)
        for method, path, body, headers in requests(identity):
            status = send(server, method, path, body, headers)
            shown = f"{method} {path[:60]}…{path[-40:]} {(body or b'')[:40]!r} {headers}"
            ours = taken_by_pack(path)
            outcome = f"{status // 100}xx" if ours else "no route of the pack"
            tally.note(outcome, f"{status}: {shown}" if ours and status >= 500 else "")
        after = watched(base)
        for path in sorted(before.keys() | after.keys()):
            if before.get(path) != after.get(path):
                tally.wrong.append(f"touched {path}")
                print(f"  WRONG: touched {path}")
        server.get("/system_stats")
    return [tally]
