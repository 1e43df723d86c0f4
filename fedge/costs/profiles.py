"""Device profiles: power, price, life and speed of the boards that a simulated or real device may be.

Times and energy in the ledger of a simulation come from here, never from the machine that simulates, so that one seed gives
one result. Read strictly from TOML (data/energy_2026-08.toml says how each figure was got).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fedge.costs.figures import Figure, check_keys, packaged_text, read_figure, read_text, read_toml
from fedge.errors import InputError

DEFAULT_PROFILES = "energy_2026-08.toml"
INFERENCE_S_ON_X86 = 98e-6
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
    "inference_s",
    "training_step_s",
)


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """One kind of device. ``figures`` keeps every number with its source and date."""

    name: str
    version: str
    figures: Mapping[str, Figure]

    def value(self, figure: str) -> float:
        """A figure's number, by the names in FIGURES."""
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
        slower = self.value("inference_s") / INFERENCE_S_ON_X86
        return sessions * SECAGG_SESSION_S_ON_X86 * slower * self.active_w

    def radio_j(self, bytes_up: float, bytes_down: float) -> float:
        """Energy of sending and receiving."""
        return bytes_up * self.value("uplink_j_per_byte") + bytes_down * self.value("downlink_j_per_byte")


def load_profiles() -> Mapping[str, DeviceProfile]:
    """The profiles that ship with fedge, by name."""
    return profiles_from_toml(packaged_text(DEFAULT_PROFILES))


def profiles_from_toml(text: str) -> Mapping[str, DeviceProfile]:
    """Reads profiles; raises InputError naming the key that is unknown, missing or unusable."""
    document = check_keys(read_toml(text, "the energy profiles"), ("version", "profiles"), "energy profiles")
    version, tables = read_text(document, "version", "energy profiles"), document["profiles"]
    if not isinstance(tables, dict) or not tables:
        raise InputError("profiles must be tables, as in [profiles.raspberry-pi-4]")
    return MappingProxyType({name: _profile(name, version, table) for name, table in tables.items()})


def _profile(name: str, version: str, table: object) -> DeviceProfile:
    where = f"profiles.{name}"
    checked = check_keys(table, FIGURES, where)
    profile = DeviceProfile(
        name, version, MappingProxyType({key: read_figure(checked[key], f"{where}.{key}") for key in FIGURES})
    )
    if profile.value("load_w") < profile.value("idle_w"):
        raise InputError(f"{where}: load_w is below idle_w")
    if min(profile.value("cores"), profile.value("life_years")) <= 0 or profile.value("attributed_share") > 1:
        raise InputError(f"{where}: cores and life_years must be above 0 and attributed_share at most 1")
    return profile
