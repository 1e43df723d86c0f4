"""From what happened to ledger rows: one small function per thing that costs, each with the book's and the profile's
figures.

Quantities may be those of one device or of many with the same profile. Pure: the time of a row is an argument.
"""

from fedge.costs.ledger import DOWNLINK, MODEL, UPLINK, Kind, LedgerEntry, Payer, entry
from fedge.costs.prices import PriceBook
from fedge.costs.profiles import DeviceProfile
from fedge.errors import InputError

OWNER, OPERATOR = Payer.DEVICE_OWNER, Payer.OPERATOR


def charge_inference(book: PriceBook, profile: DeviceProfile, *, queries: int, at: float) -> LedgerEntry:
    """Electricity of answering (or scoring) queries on the device."""
    joules = profile.inference_j(queries)
    return entry(Kind.DEVICE_INFERENCE, joules, book.device_electricity_usd_per_j, at=at, payer=OWNER, source=MODEL)


def charge_training(book: PriceBook, profile: DeviceProfile, *, steps: int, at: float) -> LedgerEntry:
    """Electricity of training steps on the device."""
    joules = profile.training_j(steps)
    return entry(Kind.DEVICE_TRAINING, joules, book.device_electricity_usd_per_j, at=at, payer=OWNER, source=MODEL)


def charge_secagg(book: PriceBook, profile: DeviceProfile, *, sessions: int, at: float) -> LedgerEntry:
    """Electricity of signatures, key agreements, shares and masks on the device."""
    joules = profile.secagg_j(sessions)
    return entry(Kind.DEVICE_SECAGG, joules, book.device_electricity_usd_per_j, at=at, payer=OWNER, source=MODEL)


def charge_line(
    book: PriceBook, profile: DeviceProfile, *, bytes_up: int, bytes_down: int, at: float
) -> tuple[LedgerEntry, LedgerEntry]:
    """The device's side of all bytes: radio energy and its own line."""
    joules = profile.radio_j(bytes_up, bytes_down)
    return (
        entry(Kind.DEVICE_RADIO, joules, book.device_electricity_usd_per_j, at=at, payer=OWNER, source=MODEL),
        entry(Kind.DEVICE_LINE, bytes_up + bytes_down, book.device_network_usd_per_byte, at=at, payer=OWNER),
    )


def charge_standing(
    book: PriceBook, profile: DeviceProfile, *, seconds: float, at: float
) -> tuple[LedgerEntry, LedgerEntry]:
    """What the device costs while it is merely there: idle power and hardware, by the profile's attributed share."""
    idle_j = profile.idle_w * seconds
    return (
        entry(Kind.DEVICE_IDLE, idle_j, book.device_electricity_usd_per_j, at=at, payer=OWNER, source=MODEL),
        entry(Kind.DEVICE_HARDWARE, seconds, profile.hardware_usd_per_s, at=at, payer=OWNER),
    )


def charge_transfer(book: PriceBook, kind: Kind, *, size_bytes: int, at: float) -> LedgerEntry:
    """The server's side of bytes, by purpose: an uplink kind at the ingress price, a downlink kind at the egress price."""
    if kind not in UPLINK | DOWNLINK:
        raise InputError(f"ledger: {kind} is no kind of bytes on the wire")
    price = book.server_ingress_usd_per_byte if kind in UPLINK else book.server_egress_usd_per_byte
    return entry(kind, size_bytes, price, at=at, payer=OPERATOR)


def charge_central(
    book: PriceBook, *, escalations: int, probes: int, at: float
) -> tuple[LedgerEntry, LedgerEntry, LedgerEntry]:
    """Central's answers at the book's price, probes apart, and the data-centre energy behind them (noted at price 0)."""
    return (
        entry(Kind.ESCALATIONS, escalations, book.central_price_usd, at=at, payer=OPERATOR),
        entry(Kind.PROBES, probes, book.central_price_usd, at=at, payer=OPERATOR),
        entry(Kind.CENTRAL_ENERGY, (escalations + probes) * book.central_energy_j_per_query, 0.0, at=at, payer=OPERATOR),
    )


def charge_upstream(
    book: PriceBook, *, model: str, tokens_in: int, tokens_out: int, at: float
) -> tuple[LedgerEntry, LedgerEntry]:
    """Tokens that an upstream language model really billed (in place of the book's price for an answer, not beside it)."""
    price = book.with_model(model).models[model]
    return (
        entry(Kind.UPSTREAM_TOKENS_IN, tokens_in, price.input_usd_per_mtok / 1e6, at=at, payer=OPERATOR),
        entry(Kind.UPSTREAM_TOKENS_OUT, tokens_out, price.output_usd_per_mtok / 1e6, at=at, payer=OPERATOR),
    )


def charge_compute(book: PriceBook, *, core_s: float, at: float) -> LedgerEntry:
    """Server cores at work: aggregation, evaluation, export, an in-house strong model."""
    return entry(Kind.CENTRAL_COMPUTE, core_s, book.central_core_usd_per_s, at=at, payer=OPERATOR)
