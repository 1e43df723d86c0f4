"""The settings of the server's parts (`server.toml` in their home) and where their files stand."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from fedge.errors import InputError
from fedge.settings import Settings, read_settings


class RoundsSettings(Settings):
    """When rounds run, and with whom."""

    cohort: int = Field(32, ge=2, le=128, description="Devices in a secure aggregation session.")
    n_min: int = Field(
        11, ge=2, le=128, description="The least devices whose sum is taken. Below 8 sums are a demonstration."
    )
    period_s: float = Field(
        3600.0,
        ge=0,
        description="Least time between the starts of two rounds, in seconds; they wait for the calendar, too.",
    )
    calendar_s: float = Field(
        86_400.0,
        ge=1,
        le=31 * 86_400,
        description="Length of a period of the calendar, in seconds: in each, a device contributes once to each sum. "
        "Signed into the trust root by fedge server init; devices refuse what is below their min_period_s.",
    )
    phase_timeout_s: float = Field(
        30.0, gt=0, description="How long a step of a session waits for the last device, seconds."
    )
    usage_every: int = Field(
        1, ge=0, description="Rounds after which devices are asked, in a secure sum, what they answered and used; 0: never."
    )
    max_risk: float = Field(0.05, gt=0, lt=1, description="Tolerated share of local answers that disagree with central.")
    confidence: float = Field(0.95, ge=0.5, lt=1, description="Confidence of the certificate.")


class ReleasesSettings(Settings):
    """How releases reach the fleet."""

    canary_share: float = Field(
        0.1, ge=0, le=1, description="Share of devices that take a release first; 0 or 1: all at once."
    )
    canary_health_s: float = Field(
        1800.0,
        ge=0,
        description="How long a canary is watched, seconds. Rounds wait for it: less than their period is best.",
    )
    canary_max_rolled_back: float = Field(
        0.1, ge=0, le=1, description="Share of the canary's devices that may give the release up before it is taken back."
    )
    canary_max_errors: float = Field(
        0.01, ge=0, le=1, description="Share of the canary's queries whose model may fail before it is taken back."
    )
    timestamp_days: float = Field(1.0, gt=0, description="Days until TUF's timestamp expires; it is renewed well before.")


class OidcSettings(Settings):
    """Login to the console by an OpenID provider: off until `issuer` and `client_id` are set."""

    issuer: str | None = Field(None, description="The provider's issuer URL, exactly as it names itself; https.")
    client_id: str = Field("", description="The client that the provider knows the console as.")
    client_secret_file: Path | None = Field(
        None, description="A file with the client's secret alone; none for a public client (PKCE is used always)."
    )
    scopes: tuple[str, ...] = Field(("openid", "profile", "email"), description="What is asked for; openid must be there.")
    name_claim: str = Field("preferred_username", description="The claim of the ID token that people are shown by.")
    role_claim: str = Field("roles", description="The claim that gives roles; dots lead into it, as realm_access.roles.")
    operators: tuple[str, ...] = Field((), description="Values of that claim that make an operator.")
    viewers: tuple[str, ...] = Field((), description="Values of that claim that make a viewer.")
    label: str = Field("single sign-on", description="What the login page calls the provider.")


class LimitsSettings(Settings):
    """How much of what all devices share one device may hold; over a limit it is told to try again later."""

    central_calls_per_device: int = Field(
        64, ge=1, le=10_000, description="Calls of one device under way at central at once."
    )
    central_calls: int = Field(
        1024, ge=1, le=100_000, description="Calls under way at central at once; a device's only call is let in beyond."
    )
    gateway_calls_per_device: int = Field(
        16, ge=2, le=10_000, description="Calls of one device under way at the gateway (the fleet port) at once."
    )
    gateway_calls: int = Field(
        1024, ge=1, le=100_000, description="Calls under way at the gateway at once; a device's only call is let in beyond."
    )
    upload_mib_per_device: int = Field(
        16, ge=16, le=1024, description="MiB of one device's updates on their way through the gateway at once."
    )
    upload_mib: int = Field(
        128, ge=16, le=65_536, description="MiB of all devices' updates on their way through the gateway at once; more wait."
    )
    uploads: int = Field(
        32, ge=1, le=1024, description="Updates on their way through the gateway at once; more wait, devices in turn."
    )
    streams_per_connection: int = Field(
        100, ge=1, le=10_000, description="Calls on one connection (`max_concurrent_streams`) at central and gateway."
    )


class ConsoleSettings(Settings):
    """Where the console listens and who may log in: see docs/console.md."""

    host: str = Field(
        "127.0.0.1", description="Address to listen on. Beyond loopback it needs names, TLS, and an operator or OIDC."
    )
    names: tuple[str, ...] = Field(
        (), description="Names by which browsers reach it beyond loopback, also through a proxy. Any set: login for all."
    )
    tls_certificate: Path | None = Field(None, description="The certificate with its chain, PEM.")
    tls_key: Path | None = Field(None, description="The certificate's private key, PEM.")
    login_on_loopback: bool = Field(
        False, description="Ask for a login on loopback, too; otherwise who is on this machine may look, not act."
    )
    session_idle_s: float = Field(8 * 3600.0, gt=0, description="A login ends after this long without a request, seconds.")
    session_max_s: float = Field(24 * 3600.0, gt=0, description="A login ends after this long in any case, seconds.")
    metrics_token_file: Path | None = Field(
        None, description="A file with the bearer token for /metrics and /healthz where a login is needed."
    )
    oidc: OidcSettings = Field(
        OidcSettings(), description="Login by an OpenID provider: off until `issuer` and `client_id` are set."
    )


class UpstreamSettings(Settings):
    """A language model that central asks: off until `url` and `model` are set. See docs/upstream.md."""

    url: str | None = Field(
        None,
        description="Base URL of an OpenAI-compatible endpoint, as http://127.0.0.1:8080/v1; https beyond private ones.",
    )
    model: str = Field("", description="The model's name as the endpoint knows it.")
    api_key_file: Path | None = Field(
        None, description="A file (mode 0600) with the endpoint's key alone; none where it wants no key."
    )
    when: Literal["unsure", "always"] = Field(
        "unsure", description="Ask where central's strong model is less sure than `min_confidence`, or always."
    )
    min_confidence: float = Field(
        0.7, ge=0, le=1, description="With `unsure`: the strong model's answer stands from this probability on."
    )
    timeout_s: float = Field(
        4.0, gt=0, le=600, description="How long one try may take, seconds; the caller's time ends them all."
    )
    max_concurrent: int = Field(8, ge=1, le=256, description="Questions to the endpoint at once.")
    max_usd_per_day: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="What it may cost on a day (UTC); beyond it central answers itself. 0: no limit.",
    )
    price: str | None = Field(
        None, description="The price book's model by which tokens are paid (`fedge costs show`); or set both prices below."
    )
    input_usd_per_mtok: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="USD for a million tokens that are sent; 0 for a model of your own."
    )
    output_usd_per_mtok: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="USD for a million tokens that come back."
    )


class RetentionSettings(Settings):
    """How long the record is kept. Rounds, sums of the ledger, releases, signed records and the audit stay for good."""

    ledger_days: float = Field(400.0, ge=0, description="Days until single rows of the ledger are forgotten; 0: never.")
    events_days: float = Field(90.0, ge=0, description="Days until events are forgotten; 0: never.")
    rounds_days: float = Field(
        400.0, ge=0, description="Days until rounds' phases, cohorts and dropouts are forgotten; 0: never. Rounds stay."
    )


class ServerSettings(Settings):
    """`server.toml`."""

    federation: str = Field("fedge", description="Name of the federation; devices take part in this one only.")
    workload: Literal["digits", "home", "clinc150", "csv"] = Field("home", description="What is asked and answered.")
    data: Path | None = Field(None, description="The text,label file of workload csv.")
    seed: int = Field(1, description="Seed of the models that `fedge server init` prepares.")
    database: str | None = Field(None, description="SQLAlchemy URL; SQLite in the home otherwise.")
    host: str = Field("127.0.0.1", description="Address of the fleet door and of central; both want client certificates.")
    names: tuple[str, ...] = Field(
        ("localhost", "127.0.0.1"), description="Names and addresses in the servers' certificates."
    )
    fleet_port: int = Field(8741, ge=0, le=65535, description="Port of the fleet door: enrolment, releases, rounds.")
    join_port: int = Field(
        8744, ge=0, le=65535, description="Port of the door for devices that join: no client certificate."
    )
    central_port: int = Field(8742, ge=0, le=65535, description="Port of central.")
    console_port: int = Field(8350, ge=0, le=65535, description="Port of the console.")
    superlink_port: int = Field(8743, ge=0, le=65535, description="Port of Flower's SuperLink, on loopback only.")
    certificate_hours: float = Field(24.0, gt=0, le=24, description="Life of a device's certificates, in hours.")
    traces_endpoint: str | None = Field(
        None, description="OTLP/HTTP address for traces, as http://127.0.0.1:4318/v1/traces; needs the extra `traces`."
    )
    log_format: Literal["text", "json"] = Field("text", description="Log lines for people, or JSON objects for machines.")
    rounds: RoundsSettings = Field(RoundsSettings(), description="When rounds run, and with whom.")
    releases: ReleasesSettings = Field(ReleasesSettings(), description="How releases reach the fleet.")
    limits: LimitsSettings = Field(
        LimitsSettings(), description="How much of what all devices share one device may hold at once."
    )
    upstream: UpstreamSettings = Field(
        UpstreamSettings(), description="A language model that central asks: off until `url` and `model` are set."
    )
    retention: RetentionSettings = Field(
        RetentionSettings(), description="How long the record is kept. Rounds, sums, releases and the audit stay."
    )
    console: ConsoleSettings = Field(
        ConsoleSettings(), description="Where the console listens and who may log in: see docs/console.md."
    )


@dataclass(frozen=True, slots=True)
class ServerHome:
    """The folder of the server's parts (mode 0700). Each part reads only the keys that it needs."""

    folder: Path

    @property
    def settings_file(self) -> Path:
        """Their settings."""
        return self.folder / "server.toml"

    @property
    def authority(self) -> Path:
        """The enrolment authority: its keys (identity and TLS) and its records. The fleet door alone reads it."""
        return self.folder / "authority"

    @property
    def keys(self) -> Path:
        """The aggregator's keys: release and round."""
        return self.folder / "keys"

    @property
    def tls(self) -> Path:
        """`ca.crt`, and `server.crt` with `server.key` of the fleet door and central."""
        return self.folder / "tls"

    @property
    def registry(self) -> Path:
        """The release registry."""
        return self.folder / "registry"

    @property
    def tuf(self) -> Path:
        """TUF: `repository/` with metadata and targets, `keys/`; the root key belongs offline."""
        return self.folder / "tuf"

    @property
    def signing(self) -> Path:
        """What rounds wait for where the release key is on another machine (`fedge keys split`)."""
        return self.folder / "signing"

    @property
    def models(self) -> Path:
        """What `fedge server init` prepared: device model, strong model, first release."""
        return self.folder / "models"

    @property
    def state(self) -> Path:
        """The rounds' state, written after each."""
        return self.folder / "state"

    @property
    def superlink(self) -> Path:
        """SuperLink's certificate and the secret that it shares with the rounds process."""
        return self.folder / "superlink"

    @property
    def nodes(self) -> Path:
        """Flower's node key of each enrolled device, as the door publishes it for the rounds process."""
        return self.folder / "nodes.json"

    @property
    def trust(self) -> Path:
        """The public keys that devices pin, canonical JSON."""
        return self.folder / "trust.json"

    @property
    def revocations(self) -> Path:
        """Who is revoked, signed by the authority: read by every part that serves devices."""
        return self.folder / "revocations"

    @property
    def probe_counts(self) -> Path:
        """What central counted of probes, by device: for central alone."""
        return self.folder / "probe_counts.sqlite"

    @property
    def totals_socket(self) -> Path:
        """Where central gives the rounds totals of its probe counts."""
        return self.folder / "totals.sock"

    @property
    def upstream_figures(self) -> Path:
        """What upstream was asked and what it cost: central writes it, the console's /metrics reads it."""
        return self.folder / "upstream.json"

    @property
    def database_url(self) -> str:
        """Of the SQLite file that is used where settings name no other."""
        return f"sqlite:///{(self.folder / 'aggregator.sqlite').absolute()}"

    def settings(self) -> ServerSettings:
        """Read from `server.toml`. Raises InputError, also where nothing was set up yet."""
        if not self.settings_file.is_file():
            raise InputError(f"{self.folder} is not set up: run `fedge server init` first")
        return read_settings(ServerSettings, self.settings_file)
