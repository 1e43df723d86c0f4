"""Runs fuzz targets under atheris, each in a process of its own.

    python tests/fuzz/run.py --list
    python tests/fuzz/run.py release.manifest --seconds 120
    python tests/fuzz/run.py all --runs 20000

A finding is an exception that is no FedgeError, a run of more than ten seconds, or one of more than half a GiB of memory.
Its input is kept in --findings and the exit status is 1; `--replay FILE` shows the traceback again.
"""

import argparse
import contextlib
import hashlib
import importlib
import io
import os
import re
import resource
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

AREAS = ("secagg_device", "secagg_server", "rounds", "central", "release", "identity", "documents", "storage")
PLANTED = "planted"
INSTRUMENTED = ["fedge", "edge_client", "aggregator", "sim", "tomllib", PLANTED]
MEMORY_BYTES = 512 << 20
BROKEN = 1


def load(areas, *, instrumented=True):
    """The targets of these areas by name, their decoders built for coverage by atheris."""
    folder = str(Path(__file__).parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    if not instrumented:
        modules = [importlib.import_module(area) for area in areas]
    else:
        import atheris

        with contextlib.redirect_stderr(io.StringIO()), atheris.instrument_imports(include=INSTRUMENTED):
            modules = [importlib.import_module(area) for area in areas]
    return {name: target for module in modules for name, target in module.TARGETS.items()}


def _find(asked, *, instrumented):
    """The targets by the name of one of them, of an area, or all; {} where there is no such name."""
    if asked == "all":
        return load(AREAS, instrumented=instrumented)
    if asked in (*AREAS, PLANTED):
        return load([asked], instrumented=instrumented)
    known = load([PLANTED] if asked.startswith(PLANTED) else AREAS, instrumented=instrumented)
    return {asked: known[asked]} if asked in known else {}


def fuzz(name, target, *, runs, seconds, findings, seed, hang_s):
    """Fuzzes one target in a child process. Returns (exit status, runs, CPU seconds, end of its output)."""
    findings.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="fedge-fuzz-"))
    try:
        corpus, log = folder / "corpus", folder / "log"
        corpus.mkdir()
        for number, data in enumerate(target.seeds):
            (corpus / f"{number:03d}").write_bytes(data)
        arguments = [name, f"-max_len={target.max_len}", f"-timeout={hang_s}", f"-artifact_prefix={findings}/{name}-"]
        arguments += [f"-seed={seed}", "-rss_limit_mb=0", str(corpus)]
        child = os.fork()
        if child == 0:
            with log.open("wb") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            try:
                _in_child(arguments, name, target, runs=runs, seconds=seconds, findings=findings)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(BROKEN)
        _, ended, usage = os.wait4(child, 0)
        output = log.read_text(errors="replace")
    finally:
        shutil.rmtree(folder)
    done = [int(number) for number in re.findall(r"(?:^#|Done )(\d+)", output, re.MULTILINE)]
    return os.waitstatus_to_exitcode(ended), max(done, default=0), usage.ru_utime + usage.ru_stime, output[-6_000:]


def _in_child(arguments, name, target, *, runs, seconds, findings):
    """Fuzzes until the runs or the seconds are over, or something is found. Ends the process.

    By `os._exit`, always: the parent's libraries have threads that a forked child lacks, and some wait for them on the way
    out.
    """
    import atheris

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, resource.RLIM_INFINITY))
    end = float("inf") if seconds is None else time.monotonic() + seconds
    done = 0

    def once(data):  # returns None: atheris takes anything else for a mistake
        nonlocal done
        if time.monotonic() >= end or (seconds is None and done >= runs):
            os.write(1, f"\nDone {done}\n".encode())
            os._exit(0)
        done += 1
        try:
            target.run(data)
        except Exception:
            (findings / f"{name}-{hashlib.sha256(data).hexdigest()[:16]}").write_bytes(data)
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(BROKEN)

    atheris.Setup(arguments, once)
    atheris.Fuzz()


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="names, areas, or all")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    parser.add_argument("--runs", type=int, help="runs of each target (by default those of the test suite)")
    parser.add_argument("--seconds", type=int, help="time for each target, in place of --runs")
    parser.add_argument("--seed", type=int, default=1, help="of the fuzzer's own choices; 0 takes another each time")
    parser.add_argument(
        "--findings", type=Path, default=Path("fuzz-findings"), help="folder for inputs that break a decoder"
    )
    parser.add_argument("--replay", type=Path, help="hand this file to the one target, without the fuzzer")
    parser.add_argument("--hang", type=int, default=10, help="seconds after which a run counts as a hang")
    given = parser.parse_args(arguments)
    instrumented = given.replay is None and not given.list
    targets = {}
    for asked in given.targets or ["all"]:
        found = _find(asked, instrumented=instrumented)
        if not found:
            parser.error(f"no target {asked!r}; --list prints those there are")
        targets.update(found)
    if given.list:
        print("\n".join(targets))
        return 0
    if given.replay is not None:
        for name, target in targets.items():
            print(name, "accepted" if target.run(given.replay.read_bytes()) else "refused")
        return 0
    found = 0
    if blocked := [name for name, target in targets.items() if not any(map(target.run, target.seeds))]:
        print(f"no seed gets through: {', '.join(blocked)}")  # then nothing behind the first check would be tested
        return 1
    for name, target in targets.items():
        status, done, cpu_s, output = fuzz(
            name,
            target,
            runs=given.runs or target.runs,
            seconds=given.seconds,
            findings=given.findings,
            seed=given.seed,
            hang_s=given.hang,
        )
        verdict = "nothing found" if status == 0 else f"FOUND something, see {given.findings}"
        print(f"{name}: {done} runs in {cpu_s:.1f} s of CPU, {verdict}", flush=True)
        if status != 0:
            found += 1
            print(output, flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
