"""`relprop serve` as a user calls it; the page itself has tests of its own."""

import socket
import sys

import pytest
from typer.testing import CliRunner

from relprop.cli import app
from relprop.cli.compare import SLOW
from tests.files import MODELS


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a model file, as the current one."""
    (tmp_path / "m.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def serve(*arguments):
    return CliRunner().invoke(app, ["serve", "--model", "m.py:small", *arguments])


def test_without_the_extra_one_sentence_names_it(folder, monkeypatch):  # noqa: ARG001 - the current folder
    for name in [
        name
        for name in sys.modules
        if name.partition(".")[0] == "gradio" or name.startswith(("relprop.app", "relprop.cli.serve"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gradio", None)
    result = serve()
    assert result.exit_code == 1
    assert result.stderr == 'Error: This needs the package gradio: pip install "relprop[app]".\n'


class TestInstalled:
    @pytest.fixture(autouse=True)
    def stopped(self, folder, monkeypatch):  # noqa: ARG002 - the current folder
        """Servers that stop at once, and what they were to serve."""
        pytest.importorskip("gradio", reason="the extra app is not installed")
        import relprop.cli.serve as module

        self.served = []

        class Stopped:
            def run(self, sockets):
                sockets[0].close()
                raise KeyboardInterrupt

        def server(answers, model, methods, address):
            self.served.append((answers, model, methods, address))
            return Stopped()

        monkeypatch.setattr(module, "server", server)

    def test_it_listens_on_this_machine_alone(self):
        result = serve("--port", "0")
        assert result.exit_code == 0, result.stderr
        assert "relprop is at http://127.0.0.1:" in result.stdout
        assert "no password" not in result.stderr
        ((answers, model, methods, address),) = self.served
        assert address.loopback
        assert (model, methods) == ("m.py:small", ("rap",))
        assert not set(SLOW) & set(answers.desk.methods)
        assert "pattern-net" not in answers.desk.methods

    def test_a_warning_where_others_reach_it(self):
        result = serve("--port", "0", "--host", "0.0.0.0")
        assert "Everybody who reaches 0.0.0.0 can use this page: it has no password" in result.stderr

    def test_methods_models_and_limits_are_the_users(self):
        result = serve(
            "--model",
            "m.py:large",
            "--methods",
            "grad-cam,rise:masks=10",
            "--max-megabytes",
            "2",
            "--max-megapixels",
            "3",
            "--port",
            "0",
        )
        assert result.exit_code == 0, result.stderr
        ((answers, _, methods, _),) = self.served
        assert list(answers.desk.models) == ["m.py:small", "m.py:large"]
        assert answers.desk.methods == ("grad-cam", "rise:masks=10")
        assert methods == ("grad-cam",)
        assert (answers.desk.limits.megabytes, answers.desk.limits.megapixels) == (2, 3)

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["--methods", "rapp"], "Unknown method 'rapp'. Did you mean 'rap'"),
            (["--methods", ""], "--methods names no method"),
            (["--port", "70000"], "The port 70000 is out of range"),
            (["--host", "203.0.113.7", "--port", "0"], "The server cannot listen on 203.0.113.7"),
            (["--host", "no such host", "--port", "0"], "The server cannot listen on no such host"),
            (["--max-megapixels", "0"], "The limit of million pixels must be above 0, not 0."),
        ],
    )
    def test_wrong_calls_are_one_sentence(self, arguments, sentence):
        result = serve(*arguments)
        assert result.exit_code == 1
        assert result.stderr.startswith(f"Error: {sentence}"), result.stderr
        assert not self.served

    def test_a_taken_port_is_said(self):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            result = serve("--port", str(port))
        assert (
            f"The server cannot listen on 127.0.0.1, port {port}: Address already in use; choose another --port" in result.stderr
        )
