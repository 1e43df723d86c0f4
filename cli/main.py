"""Entry point of the `fedge` command.

Exit codes: 0, or 1 with one clear line on standard error, or 2 for a usage error.
"""

import sys

import typer

from cli import (
    ask,
    bench,
    costs,
    device,
    devices,
    keys,
    policy,
    releases,
    replay,
    rounds,
    route,
    server,
    simulate,
    simulate_scenarios,
    up,
)
from fedge.errors import FedgeError
from fedge.printable import printable

app = typer.Typer(
    name="fedge",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Small quantized models on edge devices answer most queries, learn together through secure aggregation, "
    "and fall back to a central server for the hard ones. The ledger shows what that moves.\n\n"
    "Try first: `fedge sim run --out runs/digits`",
)
simulate.app.command("scenarios")(simulate_scenarios.scenarios)
app.add_typer(simulate.app, name="sim")
app.add_typer(rounds.app, name="rounds")
app.add_typer(route.app, name="route")
app.add_typer(costs.app, name="costs")
app.add_typer(policy.app, name="policy")
app.add_typer(server.app, name="server")
app.add_typer(bench.app, name="bench")
app.add_typer(device.app, name="device")
app.add_typer(devices.app, name="devices")
app.add_typer(keys.app, name="keys")
app.add_typer(releases.app, name="releases")
app.command("up")(up.up)
app.command("down")(up.down)
app.command("replay")(replay.replay)
app.command("ask")(ask.ask)
app.command("correct")(ask.correct)


@app.callback()
def root() -> None:
    """Keep `fedge` a group of commands."""


def main() -> None:
    """Run the command line; errors raised on purpose become one line and exit code 1."""
    try:
        app()
    except FedgeError as error:
        print(f"fedge: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
