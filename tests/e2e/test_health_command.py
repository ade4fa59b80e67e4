"""`firstline health` beside a server that runs, and after it has stopped."""

from pathlib import Path

from certificates import make_pair
from served import command_line, serve


def test_health_says_yes_while_the_server_runs_and_no_after_it(tmp_path: Path) -> None:
    with serve(tmp_path / "data") as server:
        for arguments, word in (((), "ready"), (("--live",), "alive")):
            done = command_line("health", "--url", server.url, *arguments, cwd=tmp_path)
            assert (done.returncode, done.stdout, done.stderr) == (0, f"{server.url} is {word}.\n", "")
        by_settings = command_line("health", cwd=tmp_path, FIRSTLINE_PORT=str(server.port))
        assert by_settings.stdout == f"{server.url} is ready.\n"
        assert server.stop() == 0
    done = command_line("health", "--url", server.url, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, f"{server.url} cannot be reached: connection refused.\n")


def test_health_asks_a_server_that_speaks_tls(tmp_path: Path) -> None:
    make_pair().write(tmp_path / "tls.crt", tmp_path / "tls.key")
    secured = {"FIRSTLINE_TLS_CERT": str(tmp_path / "tls.crt"), "FIRSTLINE_TLS_KEY": str(tmp_path / "tls.key")}
    with serve(tmp_path / "data", **secured) as server:
        own = command_line("health", cwd=tmp_path, FIRSTLINE_PORT=str(server.port), **secured)
        assert (own.returncode, own.stdout) == (0, f"https://127.0.0.1:{server.port} is ready.\n")
        untrusted = command_line("health", "--url", f"https://127.0.0.1:{server.port}", cwd=tmp_path)
        assert untrusted.returncode == 1
        assert "cannot be reached: its certificate is not trusted" in untrusted.stdout
        wrong = command_line("health", "--url", f"http://127.0.0.1:{server.port}", cwd=tmp_path)
        assert wrong.returncode == 1
        assert "cannot be reached" in wrong.stdout
