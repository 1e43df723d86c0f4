"""`fedge device doctor`: what keeps a device from working, one line a check, with the remedy."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import typer

from edge_client.doctor import Finding, examine
from edge_client.settings import DeviceHome

MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


def show_examination(home: Path | None, *, json_output: bool) -> None:
    """Print every finding. Exit code 1 where a check failed."""
    findings = examine(_home(home))
    if json_output:
        print(json.dumps([asdict(finding) for finding in findings]))
    else:
        print("\n".join(line(finding) for finding in findings))
    failed = sum(finding.outcome == "fail" for finding in findings)
    if failed:
        print(f"fedge: {failed} of {len(findings)} checks failed", file=sys.stderr)
        raise typer.Exit(1)


def line(finding: Finding) -> str:
    """One finding in one line."""
    says = " ".join(finding.says.split())
    return f"{MARKS[finding.outcome]}  {finding.check:<12} {says}{f' -> {finding.remedy}' if finding.remedy else ''}"


def _home(home: Path | None) -> DeviceHome:
    """The folder named, or this user's only device. A machine is examined before it joins a fleet, too."""
    from cli.homes import device_home, device_homes, fedge_home

    if home is not None:
        return DeviceHome(home)
    return device_home(None) if device_homes() else DeviceHome(fedge_home() / "devices")
