"""`fedge server audit`: what operators did, and whether the chain of it holds. On the server's machine."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from cli.homes import ServerHomeOption, open_server

JsonOption = Annotated[bool, typer.Option("--json", help="Print as JSON.")]


def audit(
    home: ServerHomeOption = None,
    count: Annotated[int, typer.Option(min=0, max=10_000, help="How many of the newest acts to print.")] = 20,
    verify: Annotated[bool, typer.Option("--verify", help="Check the whole chain, from its first row on.")] = False,
    json_output: JsonOption = False,
) -> None:
    """What operators did, newest first. With --verify, exit code 1 where a row does not follow from the one before it."""
    from rich.table import Table

    from cli.console import PlainConsole

    with open_server(home) as (_, database):
        rows = database.audit.latest(count) if count else []
        found = database.audit.verified() if verify else None
    if json_output:
        checked = None if found is None else {"rows": found.number, "hash": found.hash, "broken_at": found.broken_at}
        print(json.dumps({"audit": [asdict(row) for row in rows], "verified": checked}))
    else:
        table = Table(box=None, pad_edge=False)
        for name in ("act", "target", "by", "at", "reason", "hash"):
            table.add_column(
                name, no_wrap=name in ("act", "at", "hash"), overflow="fold", min_width=12 if name == "target" else None
            )
        for row in rows:
            at = datetime.fromtimestamp(row.at, UTC).strftime("%Y-%m-%d %H:%M")
            target = row.target[:12] if len(row.target) == 64 else row.target
            reason = str(row.detail.get("error", row.reason))
            table.add_row(
                f"{row.number} {row.action}", target, row.actor, at, reason, row.hash[:8]
            )
        console = PlainConsole()
        console.print(table if rows else "No act is shown.")
        if found is not None and found.broken_at is None:
            console.print(f"The chain of {found.number} rows holds; the last hash is {found.hash}", soft_wrap=True)
    if found is not None and found.broken_at is not None:
        typer.echo(f"the audit is broken at row {found.broken_at}: someone changed or took out an act", err=True)
        raise typer.Exit(1)
