"""What `fedge server init` does: settings, keys, models and the first release in the server's folder.

Everything is made where it is missing and kept where it stands, so that it may be run again at any time: keys and releases
that devices know already are never replaced.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from aggregator.fleet.authority import Authority
from aggregator.fleet.key_rotation import set_calendar
from aggregator.fleet.keys import AggregatorKeys, has_release_key_elsewhere
from aggregator.fleet.published import publish
from aggregator.releases.publication import tuf_repository
from aggregator.releases.registry import ReleaseRegistry
from aggregator.settings import ServerHome, ServerSettings
from aggregator.wiring import release_maker
from aggregator.workbench.model_store import load_device_model, load_facts, save_models
from aggregator.workbench.preparation import prepare_models
from aggregator.workbench.workloads import WorkloadFacts
from fedge.costs import PriceBook
from fedge.errors import InputError
from fedge.settings_text import as_toml, with_values

Stage = Callable[[str], None]


@dataclass(slots=True)
class Outcome:
    """What was made and what was there before, in words."""

    made: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    def note(self, what: str, *, made: bool) -> None:
        """Remember one thing."""
        (self.made if made else self.kept).append(what)


def initialize(home: ServerHome, wanted: ServerSettings, *, force_models: bool, stage: Stage) -> Outcome:
    """Bring ``home`` to where every part can start. ``wanted`` is written where there are no settings yet.

    Raises InputError where the home was set up for another workload, or the data cannot be used.
    """
    outcome = Outcome()
    _make_settings(home, wanted, outcome)
    settings = home.settings()
    _make_keys(home, settings, outcome)
    _make_models(home, settings, outcome, force=force_models, stage=stage)
    _publish_first_release(home, settings, outcome, stage=stage)
    return outcome


def _make_settings(home: ServerHome, wanted: ServerSettings, outcome: Outcome) -> None:
    if home.settings_file.is_file():
        stands = home.settings()
        if stands.workload != wanted.workload:
            raise InputError(
                f"{home.folder} was set up for workload {stands.workload}, not {wanted.workload}: give another --home"
            )
        if stands.names != wanted.names:
            text = home.settings_file.read_text(encoding="utf-8")
            home.settings_file.write_text(with_values(text, {"names": wanted.names}), encoding="utf-8")
        outcome.note("settings", made=False)
        return
    if wanted.workload == "csv" and wanted.data is None:
        raise InputError("workload csv reads a file: give it with --data FILE (columns text, label and, if any, user)")
    try:
        home.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.settings_file.write_text(as_toml(wanted), encoding="utf-8")
    except OSError as error:
        raise InputError(f"--home {home.folder} cannot be used: {error.strerror}") from None
    outcome.note("settings", made=True)


def _make_keys(home: ServerHome, settings: ServerSettings, outcome: Outcome) -> None:
    if has_release_key_elsewhere(home.keys):
        for what in ("keys of releases and rounds", "enrolment authority", "TUF keys"):
            outcome.note(what, made=False)
        return
    there = (home.keys / "release.pem").is_file()
    keys = AggregatorKeys.open(home.keys)
    outcome.note("keys of releases and rounds", made=not there)
    there = (home.authority / "identity.pem").is_file()
    authority = Authority.found(
        home.authority,
        name=settings.federation,
        release_key=keys.release.public_key(),
        round_key=keys.round.public_key(),
        now=time.time(),
    )
    set_calendar(authority, settings.rounds.calendar_s)
    publish(authority, home, settings.names, now=time.time())
    outcome.note("enrolment authority", made=not there)
    repository = tuf_repository(home, settings)
    outcome.note("TUF keys", made=not repository.exists)
    if not repository.exists:
        repository.create()


def _make_models(home: ServerHome, settings: ServerSettings, outcome: Outcome, *, force: bool, stage: Stage) -> None:
    if home.models.is_dir() and not force:
        load_facts(home.models)  # of a format that this version reads
        outcome.note("models", made=False)
        return
    prepared = prepare_models(settings.workload, seed=settings.seed, data=settings.data, stage=stage)
    stage("writing the models")
    save_models(home.models, WorkloadFacts.of(prepared.workload), prepared.strong, prepared.model)
    outcome.note("models", made=True)


def _publish_first_release(home: ServerHome, settings: ServerSettings, outcome: Outcome, *, stage: Stage) -> None:
    if has_release_key_elsewhere(home.keys):
        outcome.note("releases", made=False)
        return
    keys = AggregatorKeys.open(home.keys)
    registry = ReleaseRegistry(home.registry, keys.release.public_key())
    if registry.active() is not None:
        tuf_repository(home, settings).publish(registry)
        outcome.note("releases", made=False)
        return
    stage("publishing the first release")
    maker = release_maker(load_facts(home.models), load_device_model(home.models), PriceBook.load_default(), keys.release)
    first = maker.make(maker.first_head, version=0, temperature=1.0, parent=None)
    registry.publish(first, at=time.time())
    registry.promote(first.release_id, at=time.time(), reason="first release")
    tuf_repository(home, settings).publish(registry)
    outcome.note("first release", made=True)
