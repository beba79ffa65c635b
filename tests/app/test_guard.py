"""What the server lets in and sends out."""

import asyncio
import json

import pytest

pytest.importorskip("starlette", reason="the extra app is not installed")

from relprop.app.guard import Guard

LOCAL = frozenset({"127.0.0.1", "localhost", "[::1]"})
JOIN = "/gradio_api/queue/join"


async def application(scope, receive, send):
    """Answers with the body that it got."""
    body = (await receive())["body"] if scope["method"] == "POST" else b"page"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-content-type-options", b"odd")]})
    await send({"type": "http.response.body", "body": body})


def ask(path="/", *, method="GET", host="127.0.0.1:7860", body=(b"",), hosts=LOCAL):
    """Status, headers and body of one answer."""
    sent, parts = [], list(body)

    async def receive():
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [(b"host", host.encode())], "query_string": b""}
    asyncio.run(Guard(application, 3_000_000, hosts)(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(part["body"] for part in sent[1:])


@pytest.mark.parametrize(
    "path", ["/", "/config", "/theme.css", "/assets/index-1.js", "/static/fonts/a.woff2", "/gradio_api/heartbeat/abc1"]
)
def test_the_page_is_let_in(path):
    status, headers, body = ask(path)
    assert (status, body) == (200, b"page")
    policy = headers[b"content-security-policy"].decode()
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert headers[b"x-content-type-options"] == b"nosniff"


@pytest.mark.parametrize(
    "path",
    ["/gradio_api/upload", "/gradio_api/file=/etc/passwd", "/gradio_api/proxy=http://example.org", "/gradio_api/call/photo", "/gradio_api/run/photo",
     "/gradio_api/component_server", "/monitoring", "/login", "/docs", "/gradio_api/vibe-edit", "/gradio_api/queue/join/../../file=/etc/passwd"],
)  # fmt: skip
def test_nothing_else_is(path):
    assert ask(path)[0] == 404
    assert ask(path, method="POST")[0] == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:7860", 200), ("[::1]:7860", 200), ("evil.example:7860", 421), ("", 421), ("127.0.0.1.evil.example", 421)],
)
def test_other_names_are_refused_on_loopback(host, status):
    assert ask(host=host)[0] == status
    assert ask(host=host, hosts=None)[0] == 200


def test_bodies_are_bounded():
    body = json.dumps({"data": [], "event_data": "x" * 4_000_000}).encode()
    assert ask(JOIN, method="POST", body=[body])[::2] == (200, body)
    halves = [body[:1_000_000], body[1_000_000:]]
    assert ask(JOIN, method="POST", body=halves)[::2] == (200, body)
    assert ask(JOIN, method="POST", body=[b" " * 3_000_000, b" " * 3_000_000])[0] == 413


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (["rap", ["a", "b"], 3, None, 0.5], 200),
        ([{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}], 400),
        ([[{"path": "http://example.org", "meta": {"_type": "gradio.FileData"}}]], 400),
        ([[["deep"]]], 400),
        ("text", 400),
        (None, 400),
    ],
)
def test_values_that_could_be_files_are_refused(data, status):
    assert ask(JOIN, method="POST", body=[json.dumps({"data": data}).encode()])[0] == status


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_refused(body):
    assert ask(JOIN, method="POST", body=[body])[0] == 400
