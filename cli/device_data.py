"""`fedge device data list|export` and `fedge device forget`. They work on the database, whether or not an agent runs."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cli.homes import device_home
from fedge.errors import InputError

if TYPE_CHECKING:
    from edge_client.store import DeviceStore


def show_listing(home: Path | None, *, json_output: bool) -> None:
    """How much is kept of each kind."""
    from rich.table import Table

    from cli.console import PlainConsole
    from edge_client.store.retention import listing

    with _opened(home) as store:
        found = listing(store)
    if json_output:
        print(json.dumps(found))
        return
    table = Table("kind", "rows", "oldest", "newest", "holds", box=None, pad_edge=False)
    for kind in found:
        table.add_row(kind["kind"], str(kind["rows"]), _date(kind["oldest"]), _date(kind["newest"]), kind["holds"])
    PlainConsole().print(table)


def write_export(home: Path | None, out: Path | None) -> None:
    """Everything, one JSON object a line."""
    from edge_client.store.retention import export

    with _opened(home) as store:
        if out is None:
            for row in export(store):
                print(json.dumps(row))
            return
        try:
            descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise InputError(f"--out {out} cannot be written: {error.strerror}") from None
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in export(store))


def forget_data(home: Path | None, before: datetime | None, *, json_output: bool) -> None:
    """Delete, all of it or what is older."""
    from edge_client.store.retention import forget_all, forget_before

    with _opened(home) as store:
        at = None if before is None else before.replace(tzinfo=before.tzinfo or UTC).timestamp()
        gone = forget_all(store) if at is None else forget_before(store, at)
    print(json.dumps({"rows": gone}) if json_output else f"{gone} rows are deleted and overwritten.", file=sys.stdout)


@contextmanager
def _opened(home: Path | None) -> Iterator["DeviceStore"]:
    from edge_client.store import open_file

    chosen = device_home(home)
    if not chosen.store.is_file():
        raise InputError(f"{chosen.store} does not exist: this device never ran, so there is nothing")
    store = open_file(chosen.store)
    try:
        yield store
    finally:
        store.close()


def _date(at: float | None) -> str:
    return "-" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
