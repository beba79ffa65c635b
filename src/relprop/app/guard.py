"""What the server lets in: requests that the page makes, of bounded size, from the hosts that it is reached by; and what it sends out."""

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, cast

from starlette.responses import PlainTextResponse

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_PAGES = re.compile(
    r"/(?:|config/?|theme\.css|favicon\.ico|robots\.txt|manifest\.json|(?:assets|static|svelte)/[^?]*"
    r"|gradio_api/(?:queue/(?:join|data|status)|heartbeat/\w+|cancel|reset|startup-events|theme\.css|info/?|app_id))"
)
"""What the page asks for. Uploads to the disk, files, other hosts and calls by programs are no part of it."""
_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
        "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_REST = 1_000_000
"""Bytes of a request beside the photo."""


@dataclass(frozen=True)
class Guard:
    """The outermost part of the server.

    Attributes:
        app: What it guards.
        most_bytes: Of a photo; as Base64 it is a third longer.
        hosts: The names by which the server may be called; None for any. It keeps pages of other sites from calling it by a name of theirs.
    """

    app: Application
    most_bytes: int
    hosts: frozenset[str] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if self.hosts is not None and _host(headers.get("host", "")) not in self.hosts:
            await _refuse(421, "This server is not called by that name.", scope, receive, send)
        elif not _PAGES.fullmatch(scope["path"]):
            await _refuse(404, "There is no such page.", scope, receive, send)
        else:
            await self._pass(scope, receive, _with_headers(send))

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in {"POST", "PUT", "PATCH"}:
            await self.app(scope, receive, send)
            return
        body = await _body(receive, self.most_bytes * 4 // 3 + _REST)
        if body is None:
            await _refuse(413, "The photo is too large.", scope, receive, send)
        elif scope["path"].endswith("/join") and not _plain(body):
            await _refuse(400, "The page does not send such values.", scope, receive, send)
        else:
            await self.app(scope, _replayed(body, receive), send)


def _host(header: str) -> str:
    """The host of a ``Host`` header, without its port."""
    return (header.partition("]")[0] + "]" if header.startswith("[") else header.partition(":")[0]).lower()


async def _body(receive: Receive, most: int) -> bytes | None:
    """Read a body; None where it is longer than ``most``."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            return None
        if not message.get("more_body"):
            return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _plain(body: bytes) -> bool:
    """Whether the values of controls are numbers and texts: Gradio would take a table with a path for a file of the server."""
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        return False
    values: Any = cast("dict[str, Any]", found).get("data") if isinstance(found, dict) else None
    return isinstance(values, list) and all(_flat(value) for value in cast("list[Any]", values))


def _flat(value: Any) -> bool:  # noqa: ANN401 - of JSON
    if isinstance(value, list):
        return all(not isinstance(one, list | dict) for one in cast("list[Any]", value))
    return not isinstance(value, dict)


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [pair for pair in message["headers"] if pair[0].decode("latin-1").lower() not in _HEADERS]
            message["headers"] = [*kept, *((name.encode(), value.encode()) for name, value in _HEADERS.items())]
        await send(message)

    return sending


async def _refuse(status: int, sentence: str, scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(sentence, status)(scope, receive, send)
