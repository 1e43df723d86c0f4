"""`fedge ask` and `fedge correct`: a query to the agent on this machine, and a user's word on its answer."""

import json
from typing import Annotated, Any

import typer

from cli.homes import HomeOption, agent_url
from fedge.errors import InputError

UrlOption = Annotated[str | None, typer.Option(help="Address of the local API, such as http://127.0.0.1:8760.")]

_REASONS = {
    "confident": "sure enough",
    "below_threshold": "the device was not sure enough",
    "no_certificate": "no certified threshold yet, so everything is asked",
    "out_of_scope": "the device does not know this kind of query",
    "error_price": "a mistake would cost more than asking",
    "probe": "drawn to check the device against central",
    "forced_local": "asked for --local-only",
    "forced_central": "asked for --central",
    "policy_never_escalate": "policy keeps this on the device",
    "policy_always_central": "policy always asks central",
    "policy_human": "policy leaves this to a person",
    "offline": "central is out of reach",
    "over_budget": "the day's budget is spent",
    "rate_limited": "central was asked as often as the policy allows",
    "refused": "central refused the query",
    "not_stored": "the disk is full, so what central is paid could not be counted",
}


def ask(
    query: Annotated[str, typer.Argument(help="What to ask.")],
    local_only: Annotated[bool, typer.Option("--local-only", help="Answer on the device, whatever happens.")] = False,
    central: Annotated[bool, typer.Option("--central", help="Ask central.")] = False,
    topic: Annotated[
        str | None, typer.Option(help="What it is about, for rules that the device's policy has by topic.")
    ] = None,
    queue: Annotated[bool, typer.Option("--queue", help="Where central is out of reach, keep the query for it.")] = False,
    home: HomeOption = None,
    url: UrlOption = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Ask the agent on this machine: the answer, who gave it, why, how sure, at what cost."""
    from cli.local_api import call

    if local_only and central:
        raise typer.BadParameter("--local-only and --central exclude each other")
    if not query.strip():
        raise InputError("the query is empty: write what to ask, as in fedge ask 'turn off the lights'")
    mode = "local-only" if local_only else "central" if central else "auto"
    body = {"query": query, "mode": mode} | ({"queue": True} if queue else {}) | ({"topic": topic} if topic else {})
    answer = call(agent_url(home, url), "POST", "/v1/ask", body)
    print(json.dumps(answer) if json_output else _shown(answer))
    if answer["answer"] is None and not json_output:
        raise typer.Exit(1)


def correct(
    answer_id: Annotated[int, typer.Argument(metavar="ID", help="The number of the answer.")],
    label: Annotated[str, typer.Argument(help="What it should have been.")],
    home: HomeOption = None,
    url: UrlOption = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Correct an answer: kept on the device, and learned from in the next round."""
    from cli.local_api import call

    done = call(agent_url(home, url), "POST", f"/v1/answers/{answer_id}/correction", {"label": label})
    if json_output:
        print(json.dumps(done))
    elif done["kept"]:
        print(f"Answer {answer_id} is {label}: kept on this device, and learned from in the next round.")
    else:
        print(
            f"Answer {answer_id} belongs to a probe, which only calibrates: the correction is counted and not learned from."
        )


def _shown(answer: dict[str, Any]) -> str:
    if answer["answer"] is None:
        head = "No answer: this device has no release yet, and central could not be asked."
    else:
        head = str(answer["answer"])
    degraded = ", degraded" if answer["degraded"] else ""
    release = f"release {answer['release'][:12]}" if answer["release"] else "no release"
    lines = [
        head,
        f"  answered by  {answer['answered_by']}{degraded}: {_REASONS.get(answer['reason'], answer['reason'])}",
        f"  confidence   {answer['confidence']:.3f}  ({release})",
        f"  cost         {answer['usd']:.3g} USD, {answer['latency_ms']:.2f} ms",
        f"  wrong?       fedge correct {answer['id']} LABEL"
        if answer["recorded"]
        else "  not recorded: this device's disk takes nothing; see fedge device status",
    ]
    if answer.get("queued"):
        lines.append(f"  queued       central is asked when it is back in reach: GET /v1/answers/{answer['id']}")
    return "\n".join(lines)
