"""Device profiles: power, price, life and speed of the boards that a simulated or real device may be.

Times and energy in the ledger of a simulation come from here, never from the machine that simulates, so that one seed gives
one result. Read strictly from TOML (data/energy_2026-11.toml says how each figure was got).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fedge.costs.figures import Figure, check_keys, packaged_text, read_figure, read_text, read_toml
from fedge.errors import InputError

DEFAULT_PROFILES = "energy_2026-11.toml"
SECAGG_SESSION_S_ON_X86 = 0.044
SECONDS_PER_YEAR = 365.25 * 86_400

FIGURES = (
    "idle_w",
    "load_w",
    "cores",
    "price_usd",
    "life_years",
    "attributed_share",
    "uplink_j_per_byte",
    "downlink_j_per_byte",
    "slower",
)
MODEL_FIGURES = ("inference_s", "training_step_s")
MODELS = ("text", "pixels")
"""Kinds of device models, which are timed once each: `FeatureSpec.kind`."""


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """One kind of device with one kind of device model. ``figures`` keeps every number with its source and date.

    Those in MODEL_FIGURES are the model's times on the machine that they were measured on, times the device's ``slower``.
    """

    name: str
    version: str
    figures: Mapping[str, Figure]

    def value(self, figure: str) -> float:
        """A figure's number, by the names in FIGURES and MODEL_FIGURES."""
        return self.figures[figure].value

    @property
    def active_w(self) -> float:
        """Power that one busy core adds to idling."""
        return (self.value("load_w") - self.value("idle_w")) / self.value("cores")

    @property
    def idle_w(self) -> float:
        """Idle power charged to this service."""
        return self.value("idle_w") * self.value("attributed_share")

    @property
    def hardware_usd_per_s(self) -> float:
        """Price over life, charged to this service."""
        return self.value("price_usd") * self.value("attributed_share") / (self.value("life_years") * SECONDS_PER_YEAR)

    def inference_j(self, queries: int) -> float:
        """Energy of answering on one core, beyond idling."""
        return queries * self.value("inference_s") * self.active_w

    def training_j(self, steps: int) -> float:
        """Energy of training steps on one core, beyond idling."""
        return steps * self.value("training_step_s") * self.active_w

    def secagg_j(self, sessions: int) -> float:
        """Energy of taking part in secure aggregation sessions on one core, beyond idling.

        A session in a cohort of 32 with 20,000 coordinates took 44 ms on the x86 core (docs/measurements.md), whatever the
        real size; a board is taken to be as much slower at it as at inference.
        """
        return sessions * SECAGG_SESSION_S_ON_X86 * self.value("slower") * self.active_w

    def radio_j(self, bytes_up: float, bytes_down: float) -> float:
        """Energy of sending and receiving."""
        return bytes_up * self.value("uplink_j_per_byte") + bytes_down * self.value("downlink_j_per_byte")


def load_profiles(model: str = "text") -> Mapping[str, DeviceProfile]:
    """The profiles that ship with fedge, by name, for one kind of device model (MODELS)."""
    return profiles_from_toml(packaged_text(DEFAULT_PROFILES), model=model)


def profiles_from_toml(text: str, *, model: str = "text") -> Mapping[str, DeviceProfile]:
    """Reads profiles; raises InputError naming the key that is unknown, missing or unusable."""
    where = "energy profiles"
    document = check_keys(read_toml(text, "the energy profiles"), ("version", "models", "profiles"), where)
    version, tables = read_text(document, "version", where), document["profiles"]
    if not isinstance(tables, dict) or not tables:
        raise InputError("profiles must be tables, as in [profiles.raspberry-pi-4]")
    models = {name: _times(name, table) for name, table in check_keys(document["models"], MODELS, "models").items()}
    if model not in models:
        raise InputError(f"the energy profiles know no model {model!r}: there are {', '.join(models)}")
    return MappingProxyType({name: _profile(name, version, table, models[model]) for name, table in tables.items()})


def _times(name: str, table: object) -> Mapping[str, Figure]:
    """A model's seconds on the machine on which it was timed."""
    where = f"models.{name}"
    checked = check_keys(table, MODEL_FIGURES, where)
    return {key: read_figure(checked[key], f"{where}.{key}") for key in MODEL_FIGURES}


def _profile(name: str, version: str, table: object, model: Mapping[str, Figure]) -> DeviceProfile:
    where = f"profiles.{name}"
    checked = check_keys(table, FIGURES, where)
    figures = {key: read_figure(checked[key], f"{where}.{key}") for key in FIGURES}
    figures |= {key: _scaled(measured, figures["slower"]) for key, measured in model.items()}
    profile = DeviceProfile(name, version, MappingProxyType(figures))
    if profile.value("load_w") < profile.value("idle_w"):
        raise InputError(f"{where}: load_w is below idle_w")
    if min(profile.value("cores"), profile.value("life_years")) <= 0 or profile.value("attributed_share") > 1:
        raise InputError(f"{where}: cores and life_years must be above 0 and attributed_share at most 1")
    return profile


def _scaled(measured: Figure, slower: Figure) -> Figure:
    """A measured time on a device that is so much slower; as new as the newer of the two."""
    source = f"scaled by {slower.value:g} ({slower.source}) from {measured.value:g} s ({measured.source})"
    return Figure(measured.value * slower.value, source, max(measured.date, slower.date))
