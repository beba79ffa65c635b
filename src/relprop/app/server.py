"""The server: the page behind its guard, on a socket of this machine."""

import ipaddress
import socket
from dataclasses import dataclass

import gradio as gr
import uvicorn
from fastapi import FastAPI

from relprop.app.answers import Answers
from relprop.app.guard import Guard
from relprop.app.page import build, head, static, theme
from relprop.errors import OptionError

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})


@dataclass(frozen=True)
class Address:
    """Where the server listens; port 0 takes any free one."""

    host: str = "127.0.0.1"
    port: int = 7860

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def listen(address: Address) -> socket.socket:
    """Return a socket that listens there.

    Raises:
        OptionError: The host is none of this machine's, or the port is taken.
    """
    if not 0 <= address.port <= 65535:
        raise OptionError(f"The port {address.port} is out of range; it is a number from 0 to 65535.")
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((address.host, address.port))
        found.listen(128)
    except OSError as error:
        found.close()
        raise OptionError(
            f"The server cannot listen on {address.host}, port {address.port}: {error.strerror or error}; choose another --port or --host."
        ) from None
    return found


def url_of(address: Address, listening: socket.socket) -> str:
    """Return the URL of the page."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"http://{host}:{listening.getsockname()[1]}/"


def server(answers: Answers, model: str, methods: tuple[str, ...], address: Address) -> uvicorn.Server:
    """Return the server of the page; ``run(sockets=[…])`` serves until it is told to stop.

    Args:
        answers: The steps of users.
        model: The model that is chosen at first.
        methods: The methods that are chosen at first.
        address: Where it will listen.
    """
    page = build(answers, model, methods)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    mounted = gr.mount_gradio_app(
        app, page, path="/", server_name=address.host, theme=theme(), css=static("page.css"), head=head(),
        footer_links=[], run_history=False, ssr_mode=False, pwa=False, mcp_server=False, show_error=False,
    )  # fmt: skip
    guard = Guard(mounted, answers.desk.limits.bytes, LOOPBACK if address.loopback else None)
    return uvicorn.Server(uvicorn.Config(guard, log_level="critical", access_log=False, timeout_graceful_shutdown=1, ws="none"))
