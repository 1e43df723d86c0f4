"""Range proofs of counts: what a device pays to prove its ranges and a server to check them, beside the textbook proofs.

Ours is `fedge.secagg.range_proof`. Peers are two other proofs for the same ranges in the same group: a commitment and an
OR-proof for each bit (Cramer, Damgard and Schoenmakers, CRYPTO 1994), run with libsodium's operations, and an aggregated
Bulletproof (Buenz et al., S&P 2018), counted in libsodium's operations. Peers' arithmetic on scalars is left out, ours is
in. Times are CPU seconds of one core. A Raspberry Pi 4 is an estimate: ours times the ratio of X25519 in OpenSSL, as
published for its core (`PI_4_X25519_S`), to what is measured here.

    python -m benchmarks.range_proofs [--repetitions 5] [--json]
"""

import argparse
import json
import math
import os
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from nacl.bindings import (
    crypto_core_ed25519_add,
    crypto_core_ed25519_from_uniform,
    crypto_scalarmult_ed25519_base_noclamp,
    crypto_scalarmult_ed25519_noclamp,
)

from benchmarks.results import Result, cpu_median, document
from benchmarks.secagg import PER_CALL, session_by_step
from fedge.routing import DEFAULT_GRID
from fedge.routing.grid import coarse_grid
from fedge.secagg import range_proof
from fedge.secagg.range_proof import ORDER, Statement, Total

COHORT = 32
CONTEXT = b"benchmark"
PI_4_X25519_S = 424_557 / 1.5e9
"""OpenSSL's X25519 on a Cortex-A72 at a Pi 4's 1.5 GHz: 424,557 cycles in doc/speed.md of lib25519 20241004."""
UPDATE_COORDINATES = 10_000


def counts(values: int, limit: int) -> Statement:
    """Counts of which each, and all together, are at most ``limit``."""
    return Statement((limit,) * values, (Total(tuple(range(values)), limit),))


def whole_session(cap: int, stored: int) -> Statement:
    """All counts of a session: new probes by bin, the running pair, and stored probes over the coarse grid.

    New probes and the pair are at most ``cap`` in total each, stored ones at most ``stored``, noise included.
    """
    new = 2 * len(DEFAULT_GRID)
    old = 2 * len(coarse_grid(DEFAULT_GRID))
    totals = (
        Total(tuple(range(new)), cap),
        Total((new, new + 1), cap),
        Total(tuple(range(new + 2, new + 2 + old)), stored),
    )
    return Statement((cap,) * (new + 2) + (stored,) * old, totals)


CASES: dict[str, Statement] = {
    "5 counts of a total of at most 8": counts(5, 8),
    "50 counts of a total of at most 64": counts(50, 64),
    "new probes by confidence: 80 counts, at most 32": counts(2 * len(DEFAULT_GRID), 32),
    "a whole session: 82 counts of at most 32, 20 of at most 4,095": whole_session(32, 4_095),
}
UPDATE_PART = Statement((255,) * 500)
"""A part of an update in steps of 8 bits; costs are linear from here on."""


def benchmark(*, stage: Callable[[str], None], repetitions: int) -> list[Result]:
    """Measure all cases; ``stage`` is told what runs now."""
    stage("operations")
    operations = _operations(repetitions)
    pi_4 = PI_4_X25519_S / operations["x25519"]
    results: list[Result] = []
    for case, statement in CASES.items():
        stage(case)
        results += _case(case, statement, operations, pi_4, repetitions)
    stage("a part of an update")
    results.append(_update(pi_4))
    stage("a session without proofs")
    session = session_by_step(repetitions)
    results.append(
        Result(
            bench="range_proofs.session",
            case={"case": "a session of 32 without proofs, 20,000 coordinates"},
            unit="s",
            ours=session.ours / 1_000,
            peers={},
            repetitions=session.repetitions,
            detail={"pi_4_s": session.ours / 1_000 * pi_4},
        )
    )
    return results


def _case(case: str, statement: Statement, operations: dict[str, float], pi_4: float, repetitions: int) -> list[Result]:
    values = [0] * len(statement.limits)
    values[-1] = min(statement.limits) // 2
    blinding = int.from_bytes(os.urandom(31), "little")

    def prove() -> bytes:
        return range_proof.prove(statement, values, blinding=blinding, context=CONTEXT, entropy=os.urandom(32))

    proof = prove()
    commitments = [range_proof.verify(statement, proof, context=CONTEXT)] * COHORT
    sums, total_blinding = [COHORT * value for value in values], COHORT * blinding % ORDER
    seconds = {
        "prove": cpu_median(prove, repetitions),
        "verify": cpu_median(lambda: range_proof.verify(statement, proof, context=CONTEXT), repetitions),
        "sum": cpu_median(lambda: range_proof.check_sum(statement, commitments, sums, blinding=total_blinding), repetitions),
    }
    limits = [*statement.limits, *(total.limit for total in statement.totals)]
    bits = sum(limit.bit_length() for limit in limits)
    length = 1 << math.ceil(math.log2(bits))
    multiply, base, add = operations["multiply"], operations["base"], operations["add"]
    # A: n additions. S: 2 n multiplications. Folding: L and R of every round together 4 n, halved generators 4 n more.
    bulletproof = {"prove": 10 * length * (multiply + add), "verify": (2 * length + len(limits)) * (multiply + add)}
    or_proof = {
        "prove": bits * (3 * base + multiply + 3 * add),
        "verify": bits * (2 * base + 2 * multiply + 3 * add),
    }
    if bits <= 512:
        or_proof = {role: cpu_median(run, 1) for role, run in _or_proofs(bits).items()}
    results = [
        Result(
            bench=f"range_proofs.{role}",
            case={"case": case, "bits": bits},
            unit="s",
            ours=seconds[role],
            peers={"bit_or_proofs": or_proof[role], "bulletproof": bulletproof[role]},
            labels={"bulletproof": PER_CALL, **({"bit_or_proofs": PER_CALL} if bits > 512 else {})},
            repetitions=repetitions,
            detail={"pi_4_s": seconds[role] * pi_4},
        )
        for role in ("prove", "verify")
    ]
    server = COHORT * seconds["verify"] + seconds["sum"]
    sizes = {
        "bit_or_proofs": 128.0 * bits,
        "bulletproof": 32.0 * (len(limits) + 2 * math.log2(length) + 9),
    }
    return [
        *results,
        Result(
            bench="range_proofs.server",
            case={"case": case, "devices": COHORT},
            unit="s",
            ours=server,
            peers={"bit_or_proofs": COHORT * or_proof["verify"], "bulletproof": COHORT * bulletproof["verify"]},
            labels={"bulletproof": PER_CALL, "bit_or_proofs": PER_CALL},
            repetitions=repetitions,
            detail={"check_sum_s": seconds["sum"]},
        ),
        Result(
            bench="range_proofs.upload",
            case={"case": case},
            unit="bytes",
            ours=float(statement.proof_bytes),
            peers=sizes,
            labels={"bit_or_proofs": "by its format", "bulletproof": "by its format"},
            repetitions=1,
        ),
    ]


def _update(pi_4: float) -> Result:
    """Scale the proofs of a part of an update to all of it: 8 bits for each coordinate, and no bound on the norm."""
    values = [100] * len(UPDATE_PART.limits)
    parts = UPDATE_COORDINATES / len(values)

    def prove() -> bytes:
        return range_proof.prove(UPDATE_PART, values, blinding=7, context=CONTEXT, entropy=os.urandom(32))

    proof = prove()
    seconds = parts * cpu_median(prove, 1)
    verify = parts * cpu_median(lambda: range_proof.verify(UPDATE_PART, proof, context=CONTEXT), 1)
    return Result(
        bench="range_proofs.update",
        case={"case": f"{UPDATE_COORDINATES:,} coordinates of 8 bits"},
        unit="s",
        ours=seconds,
        peers={},
        labels={"ours": f"{len(values)} coordinates, times {parts:g}"},
        repetitions=1,
        detail={"pi_4_s": seconds * pi_4, "server_s": COHORT * verify, "upload_mb": parts * len(proof) / 1e6},
    )


def _operations(repetitions: int) -> dict[str, float]:
    """Measure single operations, in CPU seconds."""
    point = crypto_core_ed25519_from_uniform(bytes(range(32)))
    scalar = (ORDER // 3).to_bytes(32, "little")
    private, public = X25519PrivateKey.generate(), X25519PrivateKey.generate().public_key()
    runs: dict[str, Callable[[], object]] = {
        "multiply": lambda: crypto_scalarmult_ed25519_noclamp(scalar, point),
        "base": lambda: crypto_scalarmult_ed25519_base_noclamp(scalar),
        "add": lambda: crypto_core_ed25519_add(point, point),
        "x25519": lambda: private.exchange(public),
    }
    count = 200

    def repeat(run: Callable[[], object]) -> Callable[[], object]:
        return lambda: [run() for _ in range(count)]

    return {name: cpu_median(repeat(run), repetitions) / count for name, run in runs.items()}


def _or_proofs(bits: int) -> dict[str, Callable[[], object]]:
    """Return the group operations of one commitment and OR-proof for each bit, of a prover and of a verifier."""
    second = crypto_core_ed25519_from_uniform(bytes(range(32)))
    scalar = (ORDER // 3).to_bytes(32, "little")

    def prove() -> None:
        for _ in range(bits):
            commitment = crypto_core_ed25519_add(crypto_scalarmult_ed25519_base_noclamp(scalar), second)
            crypto_scalarmult_ed25519_base_noclamp(scalar)  # the branch that holds
            simulated = crypto_scalarmult_ed25519_base_noclamp(scalar)
            other = crypto_core_ed25519_add(commitment, second)
            crypto_core_ed25519_add(simulated, crypto_scalarmult_ed25519_noclamp(scalar, other))

    def verify() -> None:
        for _ in range(bits):
            other = crypto_core_ed25519_add(second, second)
            for commitment in (second, other):
                response = crypto_scalarmult_ed25519_base_noclamp(scalar)
                crypto_core_ed25519_add(response, crypto_scalarmult_ed25519_noclamp(scalar, commitment))

    return {"prove": prove, "verify": verify}


def main() -> None:
    """Measure and print."""
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    progress = Console(stderr=True)
    results = benchmark(stage=lambda what: progress.print(what, highlight=False), repetitions=options.repetitions)
    if options.json:
        print(json.dumps(document(results)))
        return
    table = Table("bench", "case", "ours", "times ours", "estimates", box=None, pad_edge=False)
    for result in results:
        peers = ", ".join(f"{name} {value / result.ours:.1f}" for name, value in result.peers.items())
        ours = f"{result.ours:.4g} {result.unit}"
        table.add_row(result.bench, str(result.case["case"]), ours, peers, _detail(result.detail))
    Console(width=220).print(table)


def _detail(detail: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in detail.items())


if __name__ == "__main__":
    main()
