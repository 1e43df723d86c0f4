"""The price book: what electricity, bytes, cores and central's answers cost, versioned, each with a source and a date.

Read strictly from TOML (data/prices_2026-08.toml documents every key). Prices in USD; never converts, never looks anything
up.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from fedge.costs.figures import Figure, check_keys, packaged_text, read_date, read_figure, read_number, read_text, read_toml
from fedge.errors import InputError

DEFAULT_BOOK = "prices_2026-08.toml"
JOULES_PER_KWH = 3.6e6
BYTES_PER_GB = 1e9

FIGURES = (
    "device_electricity_usd_per_kwh",
    "device_network_usd_per_gb",
    "server_ingress_usd_per_gb",
    "server_egress_usd_per_gb",
    "central_core_usd_per_hour",
    "central_energy_wh_per_query",
)


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """List price of a language model, per million tokens."""

    input_usd_per_mtok: float
    output_usd_per_mtok: float
    source: str
    date: str

    def usd(self, tokens_in: int, tokens_out: int) -> float:
        """Price of one call."""
        return (tokens_in * self.input_usd_per_mtok + tokens_out * self.output_usd_per_mtok) / 1e6


@dataclass(frozen=True, slots=True)
class PriceBook:
    """All prices of one version. ``central_model``, ``tokens_in`` and ``tokens_out`` price one answer of central."""

    version: str
    figures: Mapping[str, Figure]
    models: Mapping[str, ModelPrice]
    central_model: str
    tokens_in: int
    tokens_out: int

    @classmethod
    def load_default(cls) -> "PriceBook":
        """The book that ships with fedge."""
        return cls.from_toml(packaged_text(DEFAULT_BOOK))

    @classmethod
    def from_toml(cls, text: str) -> "PriceBook":
        """Reads a book; raises InputError naming the key that is unknown, missing or unusable."""
        document = check_keys(read_toml(text, "the price book"), ("version", "central", "models", "figures"), "price book")
        central = check_keys(document["central"], ("model", "tokens_in", "tokens_out"), "central")
        if not isinstance(document["models"], dict) or not document["models"]:
            raise InputError("models must be tables, as in [models.small]")
        figures = check_keys(document["figures"], FIGURES, "figures")
        book = cls(
            version=read_text(document, "version", "price book"),
            figures=MappingProxyType({name: read_figure(figures[name], f"figures.{name}") for name in FIGURES}),
            models=MappingProxyType({name: _model(table, f"models.{name}") for name, table in document["models"].items()}),
            central_model="",
            tokens_in=_count(central, "tokens_in"),
            tokens_out=_count(central, "tokens_out"),
        )
        return book.with_model(read_text(central, "model", "central"))

    def with_model(self, name: str) -> "PriceBook":
        """The same book with central's answers priced as calls to another of its models."""
        if name not in self.models:
            raise InputError(f"the price book has no model {name!r}; it has {', '.join(sorted(self.models))}")
        return replace(self, central_model=name)

    def with_price(self, name: str, price: ModelPrice, *, version: str) -> "PriceBook":
        """A book of another ``version`` that has one more model, whose price came from elsewhere."""
        return replace(self, version=version, models=MappingProxyType({**self.models, name: price}))

    @property
    def central_price_usd(self) -> float:
        """One answer of central."""
        return self.models[self.central_model].usd(self.tokens_in, self.tokens_out)

    @property
    def central_energy_j_per_query(self) -> float:
        """Data-centre energy of one answer: noted, not charged (the list price covers it)."""
        return self.figures["central_energy_wh_per_query"].value * 3600

    @property
    def device_electricity_usd_per_j(self) -> float:
        """Electricity at the device's socket."""
        return self.figures["device_electricity_usd_per_kwh"].value / JOULES_PER_KWH

    @property
    def device_network_usd_per_byte(self) -> float:
        """The device's own line, either way."""
        return self.figures["device_network_usd_per_gb"].value / BYTES_PER_GB

    @property
    def server_ingress_usd_per_byte(self) -> float:
        """Bytes that arrive at the server."""
        return self.figures["server_ingress_usd_per_gb"].value / BYTES_PER_GB

    @property
    def server_egress_usd_per_byte(self) -> float:
        """Bytes that leave the server."""
        return self.figures["server_egress_usd_per_gb"].value / BYTES_PER_GB

    @property
    def central_core_usd_per_s(self) -> float:
        """One server core for one second."""
        return self.figures["central_core_usd_per_hour"].value / 3600


def _model(table: object, where: str) -> ModelPrice:
    checked = check_keys(table, ("input_usd_per_mtok", "output_usd_per_mtok", "source", "date"), where)
    return ModelPrice(
        input_usd_per_mtok=read_number(checked, "input_usd_per_mtok", where),
        output_usd_per_mtok=read_number(checked, "output_usd_per_mtok", where),
        source=read_text(checked, "source", where),
        date=read_date(checked, where),
    )


def _count(table: Mapping[str, object], key: str) -> int:
    if type(value := table[key]) is not int or value < 0:
        raise InputError(f"central.{key} is {value!r}: it must be a whole number of at least 0")
    return value
