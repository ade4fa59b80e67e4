"""`firstline dev`: what helps to try and to build, and serves nobody."""

from contextlib import suppress
from typing import Annotated, Any, Final

import typer

from firstline.delivery.cli.terminal import Mistake

dev = typer.Typer(
    help="For trying and building: a fake of the language-model providers.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_PROFILES: Final = ("gemini", "openai", "anthropic", "compatible")
_KEPT: Final = 1_000
"""Requests in the log of a fake that may run for days."""


@dev.callback()
def _group() -> None:
    """Keeps a single command a command of the group."""


@dev.command("fake-provider")
def fake_provider(
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address of loopback to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, metavar="PORT", help="Port, or 0 for a free one.")] = 9100,
    latency: Annotated[
        str,
        typer.Option(metavar="TIME", help="Seconds, lognormal:MEDIAN,SIGMA or tail:USUAL,SLOW,SHARE."),
    ] = "0",
    fault: Annotated[
        str | None, typer.Option(metavar="NAME", help="What goes wrong; docs/guides/fake-provider.md has the names.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, metavar="N", help="Only every so manyth request fails.")] = 1,
    count: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Healthy again after so many failures.", show_default=False)
    ] = None,
    profile: Annotated[
        str, typer.Option(metavar="NAME", help="Only requests under /p/NAME get fault and latency.")
    ] = "",
    own_port: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PORT", help="A profile that gets a port of its own; can be given often."),
    ] = None,
    obedient: Annotated[
        bool, typer.Option("--obedient", help="Obey what messages say, as the worst model would.")
    ] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the latencies.")] = 0,
) -> None:
    """Pretend to be Gemini, OpenAI, Anthropic and any server like OpenAI's, on this machine only.

    Answers by keywords, in the shape that the request asks for; needs no key and costs nothing. Faults and latency can
    be changed while it runs: PUT /_fake/script.
    """
    from firstline.delivery.fake_provider.latency import latency_of
    from firstline.delivery.fake_provider.script import Fault, Script, Step, fault_of

    try:
        failing = fault_of(fault) if fault else Fault.NONE
        steps = (Step(failing, count=count, every=every),) if fault else ()
        script = Script(steps, latency=latency_of(latency), behaviour="obedient" if obedient else "sensible", seed=seed)
    except ValueError as mistake:
        raise Mistake(f"{mistake}.") from None
    _serve(host=host, port=port, own_ports=_ports(own_port or ()), script=script, profile=profile)


def _serve(*, host: str, port: int, own_ports: dict[str, int], script: Any, profile: str) -> None:
    """Serve until stopped."""
    import uvloop

    from firstline.delivery.fake_provider.port import NotLoopback
    from firstline.delivery.fake_provider.server import FakeServer

    async def run() -> None:
        server = FakeServer(host=host, port=port, own_ports=own_ports, keep=_KEPT)
        await server.open()
        try:
            await server.play(script, profile=profile)
            with suppress(OSError):  # whoever reads standard output may be gone; the fake stays
                print(_greeting(server), flush=True)
            await server.stopped()
        finally:
            server.close()

    try:
        uvloop.run(run())
    except NotLoopback as mistake:
        raise Mistake(f"--host {host}: {mistake}.") from None
    except ValueError as mistake:
        raise Mistake(f"{mistake}; see --own-port.") from None
    except OSError as taken:
        raise Mistake(f"Cannot listen on {host}, port {port}: {taken.strerror or taken}.") from None


def _ports(given: Any) -> dict[str, int]:
    ports: dict[str, int] = {}
    for pair in given:
        name, _, number = pair.partition("=")
        if not name or not number.isdigit() or int(number) > 65_535:
            raise Mistake(f"--own-port takes NAME=PORT, a port of 0–65535, not {pair!r}.")
        ports[name] = int(number)
    return ports


def _greeting(server: Any) -> str:
    """What to paste so that firstline asks this fake."""
    from firstline.delivery.fake_provider.provider import BASE_PATHS

    lines = [f"The fake providers listen on {server.url()}", "", "Paste this where firstline is started:", ""]
    for profile in _PROFILES:
        prefix = "FIRSTLINE_COMPATIBLE" if profile == "compatible" else profile.upper()
        key = "" if profile == "compatible" else f"{prefix}_API_KEY=fake "
        model = f" {prefix}_MODEL=fake" if profile == "compatible" else ""
        lines.append(f"export {key}{prefix}_BASE_URL={server.url(profile)}{BASE_PATHS[profile]}{model}")
    return "\n".join([*lines, "", "Ctrl-C stops it."])
