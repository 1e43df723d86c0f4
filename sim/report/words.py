"""What the report says in words: the result in a few figures, the certificate's state, and where the run loses. No HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fedge.routing import probe_weight
from sim.report.numbers import MISSING, number
from sim.report.series import Values, column, running

Tone = Literal["", "good", "loss"]


@dataclass(frozen=True, slots=True)
class Tile:
    """One big figure with what to make of it."""

    title: str
    value: str
    note: str
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Account:
    """A row of the table of costs: USD per 1,000 queries in the last round, and of the run, which ``against`` compares."""

    name: str
    meaning: str
    usd_per_1k: float | None
    usd_run: float | None
    against: str
    tone: Tone


def warning(secagg: object) -> str | None:
    """The loud line over a run whose sums are not private."""
    if secagg is True:
        return None
    if secagg == "demo":
        return (
            "Demonstration: the cohort is so small that its sums are not private. Secure aggregation really ran, but a sum "
            "over so few devices says too much of each."
        )
    return (
        "Plain run: nothing is private. Devices sent their updates unmasked, so the server could read each of them; "
        "only a run with secure aggregation hides them."
    )


def describe_attackers(summary: Mapping[str, Any]) -> str | None:
    """Say how many devices played attackers and whose figures these are; None where all were honest."""
    hostile: Mapping[str, int] = summary.get("hostile") or {}
    if not hostile:
        return None
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(hostile.items()))
    total = sum(hostile.values())
    return (
        f"Attackers were played: {total} of {summary['devices']} devices lied in every round ({kinds}). Queries and costs "
        f"are those of the other {summary['devices'] - total}; accuracy is that of the release which the whole fleet made."
    )


def facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The header: what was run, with what."""
    rounds: Sequence[Mapping[str, Any]] = summary["rounds"]
    parameters = summary.get("parameters", {})
    secagg = {True: "secure, the server saw sums only", "demo": "demonstration, sums not private"}.get(
        summary["secagg"], "plain, sums not private"
    )
    asked, redrawn = (sum(v or 0.0 for v in column(rounds, f"stream.{name}")) for name in ("queries", "redrawn"))
    note = str(summary.get("note") or MISSING)
    if asked:
        note += f"; {number(redrawn, 'count')} of the {number(asked, 'count')} queries asked in this run were drawn again"
    rows = [
        ("Workload", summary["workload"]),
        ("Devices", summary["devices"]),
        ("Rounds", len(rounds)),
        ("Queries per device and round", parameters.get("queries_per_round")),
        ("Seed", summary["seed"]),
        ("Aggregation", secagg),
        ("Data", note),
        ("Central's model", summary.get("central_model")),
        ("Device profile", summary.get("device_profile")),
        ("Price book", summary.get("price_book")),
        ("fedge version", summary["version"]),
        ("SHA-256 of the data", summary["data_sha256"]),
    ]
    return [(name, MISSING if value is None else str(value)) for name, value in rows]


def tiles(summary: Mapping[str, Any]) -> list[Tile]:
    """The main result, of the last round. The summary has at least one."""
    rounds: Sequence[Mapping[str, Any]] = summary["rounds"]
    last = rounds[-1]
    system, central = (_value(last, f"accuracy.{name}") for name in ("system", "central"))
    return [
        Tile(
            "Fallback rate",
            number(_value(last, "fallback_rate"), "share"),
            f"of the test queries go to central; {number(_value(rounds[0], 'fallback_rate'), 'share')} after round one",
        ),
        Tile("Accuracy of the system", number(system, "share"), _gap(system, central)),
        _cost_tile("Marginal cost", last, "marginal"),
        _cost_tile("Loaded cost", last, "loaded"),
        _break_even_tile(summary),
        Tile(
            "Certificate",
            str(last["certificate"]),
            f"bound on the disagreement with central: {number(_value(last, 'certified_risk'), 'share')}",
            "good" if last["certificate"] == "certified" else "",
        ),
    ]


def certificate(last: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
    """The state of the certificate after the last round, in words: agreement with central, which is not accuracy."""
    bound, seen, wrong = (_value(last, path) for path in ("certified_risk", "probes.local", "probes.disagreed"))
    limit = number(_number(parameters.get("max_risk")), "share")
    sure = number(_number(parameters.get("confidence")), "share")
    rarer = " (a probe drawn at a lower rate counts more)" if seen and probe_weight(int(seen)) > 1 else ""
    counts = f" So far {number(wrong, 'count')} of {number(seen, 'count')} local probes disagreed{rarer}." if seen else ""
    if last["certificate"] == "certified":
        return (
            f"Certified: local answers disagree with central in at most {number(bound, 'share')} (anytime-valid, {sure} "
            f"confidence); {limit} is permitted. This is a mean over the fleet's local answers so far, shown by probes. It "
            f"speaks of agreement with central, not of right answers, and of no single device.{counts}"
        )
    if last["certificate"] == "empirical":
        known = "there is no local probe yet" if bound is None else f"the bound stands at {number(bound, 'share')}"
        return (
            "Empirical: the threshold in use passed a test on the probes counted for this release, but the running bound on "
            f"the disagreement with central over the whole run has not come down to the {limit} that is permitted ({known})."
            f" Local answers are given without a guarantee; more probes that agree with central would earn one.{counts}"
        )
    return (
        "None: no threshold could be shown to keep the disagreement with central within "
        f"{limit}, so devices send every query to central unless the policy forbids it.{counts}"
    )


def privacy(summary: Mapping[str, Any]) -> str | None:
    """What differential privacy cost and what may be said of it; None where no noise was asked for."""
    spent = summary.get("privacy")
    if not spent:
        return None
    ratio = spent["noise_to_signal"]
    noise = "no sum was released"
    if ratio is not None:
        noise = f"the noise in a sum is {number(ratio, 'count')} times as long as the sum of updates can be at most"
        if ratio > 1:
            noise += ", so a round by itself says little about what was learned"
    return (
        f"Noise multiplier {number(spent['noise_multiplier'], 'count')}, epsilon {number(spent['epsilon'], 'count')} at "
        f"delta {spent['delta']:g} over the whole run: {spent['verdict']}. In the noisiest round {noise}."
    )


def policy(summary: Mapping[str, Any]) -> str | None:
    """How often the policy's rules were broken and what its limits kept from central; None where there is no policy."""
    fared = summary["rounds"][-1].get("policy")
    if not fared:
        return None
    says = []
    if fared["pinned"]:
        before = fared["violation_rate_unconstrained"]
        compared = "" if before is None else f"; without the rules in training {number(before, 'share')}"
        says.append(
            f"Rules: {number(fared['violations'], 'count')} of the {number(fared['pinned'], 'count')} test queries whose "
            "label by central is pinned went where their rule forbids: "
            f"{number(fared['violation_rate'], 'share')}{compared}. "
            f"A rule caught {number(fared['overreach'], 'share')} of the free ones."
        )
    over, limited = (_sum(column(summary["rounds"], f"policy.stream.{name}")) for name in ("over_budget", "rate_limited"))
    if over or limited:
        says.append(
            f"Limits: in the whole run {number(over, 'count')} queries came over a day's budget and "
            f"{number(limited, 'count')} more often than the rate; devices answered them, marked degraded, outside the "
            "certificate. Test queries know no limits."
        )
    return " ".join(says) or "No test query is pinned, and no limit was reached."


def accounts(summary: Mapping[str, Any]) -> list[Account]:
    """Marginal, loaded and all-cloud, side by side."""
    rounds: Sequence[Mapping[str, Any]] = summary["rounds"]
    meanings = {
        "marginal": "what would not have been spent without fedge, on devices that are there anyway",
        "loaded": "marginal, with the devices' idle power and hardware",
        "all_cloud": "the same queries, all of them sent to central",
    }
    cloud = _sum(column(rounds, "usd_total.all_cloud"))
    rows = []
    for name, meaning in meanings.items():
        run = _sum(column(rounds, f"usd_total.{name}"))
        text, tone = against(None if name == "all_cloud" else run, cloud)
        rows.append(Account(name.replace("_", "-"), meaning, _value(rounds[-1], f"usd_per_1k.{name}"), run, text, tone))
    return rows


def verdicts(summary: Mapping[str, Any]) -> list[str]:
    """Per account, plainly: does it pay, from when on, or not."""
    last = summary["rounds"][-1]
    cloud = _value(last, "usd_per_1k.all_cloud")
    says = []
    for name, key in (("marginal", "break_even_round"), ("loaded", "break_even_round_loaded")):
        text, tone = against(_value(last, f"usd_per_1k.{name}"), cloud)
        if not text:
            continue
        lost = ": here the device side loses" if tone == "loss" else ""
        at = summary.get(key)
        end = (
            "summed over the run, it never came down to all-cloud for good: no break-even."
            if at is None
            else f"summed over the run, it stays at or below all-cloud from round {at} on."
        )
        says.append(f"In the {name} account, a query of round {last['round']} cost {text} all-cloud{lost}; {end}")
    return says


def against(cost: float | None, cloud: float | None) -> tuple[str, Tone]:
    """``cost`` beside the all-cloud cost ("3 times"); nothing to say where either is missing or all-cloud is free."""
    if cost is None or not cloud:
        return "", ""
    ratio = cost / cloud
    if ratio == 1:
        return "as much as", ""
    if ratio >= 2:
        return f"{number(ratio, 'count')} times", "loss"
    if ratio > 1:
        return f"{number(ratio - 1, 'share')} more than", "loss"
    return f"{number(1 - ratio, 'share')} less than", "good"


def _cost_tile(title: str, last: Mapping[str, Any], account: str) -> Tile:
    cost, cloud = (_value(last, f"usd_per_1k.{name}") for name in (account, "all_cloud"))
    text, tone = against(cost, cloud)
    note = f"USD per 1,000 queries, {text} all-cloud ({number(cloud, 'usd')})"
    return Tile(title, number(cost, "usd"), note + (": the device side loses" if tone == "loss" else ""), tone)


def _break_even_tile(summary: Mapping[str, Any]) -> Tile:
    def words(key: str) -> str:
        at = summary.get(key)
        return "none" if at is None else f"round {at}"

    marginal, loaded = words("break_even_round"), words("break_even_round_loaded")
    tone: Tone = "loss" if summary.get("break_even_round") is None else ""
    return Tile("Break-even, marginal", marginal, f"against all-cloud, summed over the run; loaded: {loaded}", tone)


def _gap(system: float | None, central: float | None) -> str:
    if system is None or central is None:
        return "on test queries"
    points = 100 * abs(central - system)
    side = "below" if system < central else "above"
    return f"on test queries, {number(points, 'count')} points {side} central's {number(central, 'share')}"


def _value(entry: Mapping[str, Any], path: str) -> float | None:
    return column((entry,), path)[0]


def _sum(values: Values) -> float | None:
    return running(values)[-1] if any(value is not None for value in values) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
