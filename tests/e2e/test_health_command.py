"""`firstline health` beside a server that runs, and after it has stopped."""

from pathlib import Path

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
