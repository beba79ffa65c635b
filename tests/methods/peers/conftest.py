"""Lists the peers that do not import at the end of a run."""

from tests.methods.peers.peers import MISSING


def pytest_terminal_summary(terminalreporter):
    if MISSING:
        terminalreporter.section("missing peers")
        for name, reason in MISSING.items():
            terminalreporter.write_line(f"{name}: {reason}")
