"""`fedge sim`: the closed loop on a simulated fleet."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True, help="The closed loop on a simulated fleet, with the real devices' and server's code."
)


class WorkloadName(StrEnum):
    """Workloads that ship with fedge, and one for anyone's file."""

    DIGITS = "digits"
    HOME = "home"
    CLINC150 = "clinc150"
    CSV = "csv"


class Engine(StrEnum):
    """How messages reach the simulated devices."""

    INPROCESS = "inprocess"


class CentralMode(StrEnum):
    """How devices reach central."""

    INPROCESS = "inprocess"
    GRPC = "grpc"


@app.callback()
def group() -> None:
    """Keep `fedge sim` a group of commands."""


@app.command()
def run(
    out: Annotated[Path, typer.Option(help="Folder for summary.json, rounds.csv, report.html and release/.")],
    workload: Annotated[
        WorkloadName, typer.Option(help="digits and home need no download; csv takes --data FILE.")
    ] = WorkloadName.DIGITS,
    devices: Annotated[int, typer.Option(help="Simulated devices.")] = 30,
    rounds: Annotated[int, typer.Option(help="Rounds; one simulated day each.")] = 8,
    seed: Annotated[int, typer.Option(help="One seed gives one result.")] = 1,
    data: Annotated[Path | None, typer.Option(help="For --workload csv: text,label[,user] in UTF-8, gzip too.")] = None,
    engine: Annotated[Engine, typer.Option(help="Transport of Flower's messages.")] = Engine.INPROCESS,
    secagg: Annotated[
        bool, typer.Option("--secagg/--plain", help="Sum updates securely, or the same integers unmasked (to compare).")
    ] = True,
    dropout: Annotated[float, typer.Option(help="Probability that a device leaves a session at a random stage.")] = 0.0,
    alpha: Annotated[
        float, typer.Option(help="Dirichlet parameter of the split over devices; smaller is more skewed.")
    ] = 0.3,
    queries_per_round: Annotated[
        int | None, typer.Option(help="Queries of each device in a round.", show_default="the workload's")
    ] = None,
    max_risk: Annotated[float, typer.Option(help="Tolerated share of local answers that disagree with central.")] = 0.05,
    confidence: Annotated[float, typer.Option(help="Confidence of the certificate.")] = 0.95,
    cohort: Annotated[
        int, typer.Option(help="Devices that train in a round; more than 128 in several secure aggregation sessions.")
    ] = 32,
    bits: Annotated[
        int, typer.Option(help="Bits a coordinate of an update: 32, or 16 for slow uplinks (coarser, half the bytes).")
    ] = 32,
    dp_noise_multiplier: Annotated[
        float,
        typer.Option(
            help="Distributed differential privacy: noise of a sum in units of what one device can change; 0: none.",
        ),
    ] = 0.0,
    dp_delta: Annotated[
        float, typer.Option(help="The delta at which epsilon is stated; well below one in the number of devices.")
    ] = 1e-5,
    central: Annotated[
        CentralMode, typer.Option(help="Ask central's service in this process, or over gRPC.")
    ] = CentralMode.INPROCESS,
    warm_start: Annotated[
        bool, typer.Option("--warm-start", help="Train the first release's head on the server's part of the data.")
    ] = False,
    prices: Annotated[Path | None, typer.Option(help="A price book (TOML) instead of the one that ships.")] = None,
    policy: Annotated[Path | None, typer.Option(help="A policy (TOML): rules, error prices, budget, rate limits.")] = None,
    constraint: Annotated[
        bool,
        typer.Option("--constraint/--no-constraint", help="Let the policy's rules weigh in training, or only in routing."),
    ] = True,
    policy_baseline: Annotated[
        bool,
        typer.Option(
            "--policy-baseline", help="Play the run again without the rules in training: violations before and after."
        ),
    ] = False,
    insecure_small_cohort: Annotated[
        bool,
        typer.Option(
            "--insecure-small-cohort", help="Allow cohorts below 8 devices: a demonstration, its sums hide nothing."
        ),
    ] = False,
    hostile: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND:COUNT",
            help="Let COUNT devices lie from the first round on; may be given again. Kinds: sign_flip, scale, within_bounds "
            "(the worst update that passes every check), label_swap, forge_counts and shade_counts (invented agreeing "
            "probes, many or few), tripwire; "
            "joined by '+' one device tells several lies. Figures are those of the honest devices.",
        ),
    ] = None,
    range_proofs: Annotated[
        bool | None,
        typer.Option(
            "--range-proofs/--no-range-proofs",
            help="Let devices prove that their probe counts lie in their ranges; about 0.1 s of CPU a device and round.",
            show_default="only with --hostile",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted run in --out with the same parameters.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the summary as JSON; no table.")] = False,
) -> None:
    """Run the loop: devices answer, hard queries go to central, its answers train the fleet, the ledger shows the cost.

    Writes `summary.json`, `rounds.csv`, `report.html`, the last signed release and the aggregator's database. Ctrl-C leaves
    a run that --resume continues.
    """
    from cli.progress import Progress
    from sim.config import SimulationConfig
    from sim.hostile import parse_hostile
    from sim.policy_baseline import simulate_with_baseline
    from sim.run import simulate

    config = SimulationConfig(
        workload=workload.value,
        devices=devices,
        rounds=rounds,
        seed=seed,
        out=out,
        data=data,
        secagg=secagg,
        dropout=dropout,
        alpha=alpha,
        queries_per_round=queries_per_round,
        max_risk=max_risk,
        confidence=confidence,
        cohort=cohort,
        central=central.value,
        warm_start=warm_start,
        prices=prices,
        policy=policy,
        constraint=constraint,
        insecure_small_cohort=insecure_small_cohort,
        bits=bits,
        dp_noise_multiplier=dp_noise_multiplier,
        dp_delta=dp_delta,
        hostile=parse_hostile(hostile or []),
        range_proofs=range_proofs,
    ).checked()
    del engine  # one engine so far; typer refuses any other
    with Progress(config, quiet=json_output) as progress:
        try:
            play = simulate_with_baseline if policy_baseline else simulate
            summary = play(config, observer=progress, resume=resume)
        except KeyboardInterrupt:
            progress.interrupted(resumed=resume)
            raise typer.Exit(1) from None
    if json_output:
        import json

        print(json.dumps(summary))
    else:
        progress.conclude(summary)
