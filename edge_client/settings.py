"""The settings of one device (`device.toml` in its home) and where its files stand."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from edge_client.training_policy import TrainingPolicy
from fedge.settings import Settings, read_settings

_TRAINING = TrainingPolicy()


class ApiSettings(Settings):
    """The local API."""

    host: str = Field("127.0.0.1", description="Loopback address of the local API; no other is taken.")
    port: int = Field(8760, ge=0, le=65535, description="Port of the local API; 0 takes a free one.")


class NodeSettings(Settings):
    """Taking part in rounds."""

    mode: Literal["embedded", "supernode", "off"] = Field(
        "embedded",
        description="Flower's node inside this process, an official SuperNode beside it, or no part in rounds.",
    )


class QueueSettings(Settings):
    """Questions kept while central is out of reach."""

    max_bytes: int = Field(16 * 1024 * 1024, ge=0, description="Most that the queue may hold, in bytes of queries.")
    max_age_s: float = Field(7 * 24 * 3600.0, gt=0, description="Questions older than this are dropped, in seconds.")


class ReleaseSettings(Settings):
    """The health window after a swap: a release that does badly in it gives way to the one before, for good."""

    health_s: float = Field(900.0, ge=0, description="How long a new release is watched, in seconds.")
    max_errors: int = Field(3, ge=1, description="Failures of the model (it raises, or gives no number) that end it.")
    max_starts: int = Field(3, ge=1, description="Loads or starts under it that ended the process, before it is given up.")
    escalation_rise: float = Field(0.3, gt=0, le=1, description="Largest rise of the share of escalated queries.")
    min_answers: int = Field(50, ge=1, description="Queries under each of the two releases before that rise is judged.")


class TrainingSettings(Settings):
    """What a release may ask of this device's training. A release outside of these bounds gets no update."""

    max_parameters: int = Field(_TRAINING.max_parameters, ge=1, description="Most values in a head that it trains.")
    max_dimensions: int = Field(_TRAINING.max_dimensions, ge=1, description="Widest embedding that a head reads.")
    max_learning_rate: float = Field(_TRAINING.max_learning_rate, gt=0, description="Largest learning rate.")
    min_batch_size: int = Field(_TRAINING.min_batch_size, ge=1, description="Smallest batch, in examples.")
    max_batch_size: int = Field(_TRAINING.max_batch_size, ge=1, description="Largest batch, in examples.")
    max_epochs: int = Field(_TRAINING.max_epochs, ge=1, description="Most passes over the examples in a round.")
    max_clip_norm: float = Field(_TRAINING.max_clip_norm, gt=0, description="Largest L2 norm of an update.")
    max_example_clip_norm: float = Field(
        _TRAINING.max_example_clip_norm, gt=0, description="Largest L2 norm of one example's gradient."
    )
    max_weight_cap: int = Field(_TRAINING.max_weight_cap, ge=1, description="Most examples that an update weighs as.")
    max_l2: float = Field(_TRAINING.max_l2, ge=0, description="Largest weight of the L2 term.")
    max_label_smoothing: float = Field(_TRAINING.max_label_smoothing, ge=0, le=1, description="Most label smoothing.")
    max_example_share: float = Field(
        _TRAINING.max_example_share,
        gt=0,
        le=1,
        description="Largest share of one example in an update; one above it is scaled down. 1: no limit.",
    )
    min_kept: float = Field(
        _TRAINING.min_kept,
        ge=0,
        le=1,
        description="An update that would leave an example less than this part, to be within its share, stays at home.",
    )
    max_rise: float = Field(
        _TRAINING.max_rise,
        ge=0,
        le=1,
        description="Largest rise of the mean miss on the device's own examples from one trained release to the next, "
        "beyond chance.",
    )
    compare_s: float = Field(_TRAINING.compare_s, ge=0, description="How long that comparison holds, in seconds.")
    base_wait_s: float = Field(
        _TRAINING.base_wait_s,
        ge=0,
        description="How long a new base (encoder) waits before the device trains on it, in seconds; not the first one.",
    )

    def policy(self) -> TrainingPolicy:
        """Return the bounds as the participant goes by them."""
        return TrainingPolicy(**self.model_dump())


class DeviceSettings(Settings):
    """`device.toml`."""

    device_id: str = Field(description="The device's name in the fleet, as its certificates bear it.")
    fleet: str = Field(description="host:port of the server's fleet door (enrolment, releases, rounds).")
    enrolment: str | None = Field(
        None, description="host:port of the door for devices that join, or come back after a day away."
    )
    central: str = Field(description="host:port of central.")
    federation: str = Field("fedge", description="Name of the federation whose rounds it takes part in.")
    server_name: str | None = Field(
        None, description="Name in the servers' certificates where it differs from the host dialled."
    )
    profile: str = Field("raspberry-pi-4", description="Device profile for energy where nothing measures it.")
    daily_budget_usd: float | None = Field(
        None, ge=0, description="Most that central may be paid on a day (UTC); the policy's budget.daily_usd if smaller."
    )
    central_timeout_s: float = Field(5.0, gt=0, description="How long one query waits for central, in seconds.")
    sync_s: float = Field(60.0, gt=0, description="Time between two looks for a newer release, in seconds.")
    report_s: float = Field(
        60.0,
        ge=0,
        allow_inf_nan=False,
        description="Time between two reports of release, supply and queue to the server, in seconds, 5 or more; 0: never.",
    )
    keep_days: float = Field(90.0, gt=0, description="How long queries, labels and answers are kept, in days.")
    min_noise_multiplier: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="Takes part only in sums with at least this much noise (differential privacy); 0: as releases say.",
    )
    min_period_s: float = Field(
        3600.0,
        ge=1,
        description="The shortest period of the fleet's calendar in which this device takes part, in seconds; it "
        "contributes once a period to each kind of sum. Lower it for a demonstration only.",
    )
    max_rescores: int = Field(8, ge=1, le=1000, description="In how many certificates' histograms one probe may stand.")
    max_probe_epsilon: float = Field(
        4.0, ge=0.05, le=20, description="The most that the noise on one such histogram may tell about one probe."
    )
    range_proofs: bool = Field(
        True,
        description="Proves that its probe counts lie in their ranges, where the federation asks for it; false: stays "
        "out of such sums.",
    )
    max_probe_store: int = Field(
        4096, ge=1, le=1 << 20, description="The most stored probes that such a proof may be about, which grows with them."
    )
    min_cohort: int = Field(8, ge=2, description="The smallest n_min of a cohort that this device joins; below 8 is a demo.")
    policy: Path | None = Field(
        None,
        description="A policy (docs/policy.md), relative to the device's folder; one without rules or limits otherwise.",
    )
    traces_endpoint: str | None = Field(
        None, description="OTLP/HTTP address for traces, as http://127.0.0.1:4318/v1/traces; needs the extra `traces`."
    )
    log_format: Literal["text", "json"] = Field("text", description="Log lines for people, or JSON objects for machines.")
    sysfs: Path = Field(Path("/sys"), description="Root under which power sensors are read.")
    api: ApiSettings = Field(ApiSettings(), description="The local API.")
    node: NodeSettings = Field(NodeSettings(), description="Taking part in rounds.")
    releases: ReleaseSettings = Field(ReleaseSettings(), description="The health window after a swap.")
    training: TrainingSettings = Field(TrainingSettings(), description="What a release may ask of training.")
    queue: QueueSettings = Field(QueueSettings(), description="Questions kept while central is out of reach.")


@dataclass(frozen=True, slots=True)
class DeviceHome:
    """The folder of one device (mode 0700). Private keys stand in it with mode 0600."""

    folder: Path

    @property
    def settings_file(self) -> Path:
        """Its settings."""
        return self.folder / "device.toml"

    @property
    def identity_key(self) -> Path:
        """Ed25519, PEM: signs what the device says in secure aggregation."""
        return self.folder / "identity.key"

    @property
    def identity_certificate(self) -> Path:
        """DER, by the enrolment authority."""
        return self.folder / "identity.crt"

    @property
    def tls_key(self) -> Path:
        """ECDSA P-256, PEM."""
        return self.folder / "tls.key"

    @property
    def tls_certificate(self) -> Path:
        """PEM, by the TLS authority."""
        return self.folder / "tls.crt"

    @property
    def tls_authority(self) -> Path:
        """PEM: what the servers' certificates are checked against."""
        return self.folder / "ca.crt"

    @property
    def node_key(self) -> Path:
        """ECDSA P-384 in OpenSSH form: Flower's node authentication."""
        return self.folder / "node.key"

    @property
    def participant(self) -> Path:
        """Socket by which a SuperNode's app reaches this agent's participant."""
        return self.folder / "participant.sock"

    @property
    def trust(self) -> Path:
        """The pinned `TrustRoot`, canonical JSON."""
        return self.folder / "trust.json"

    @property
    def revocations(self) -> Path:
        """The newest signed revocation list."""
        return self.folder / "revocations"

    @property
    def tuf(self) -> Path:
        """Trusted TUF metadata, root.json first."""
        return self.folder / "tuf"

    @property
    def releases(self) -> Path:
        """Installed releases and partial downloads."""
        return self.folder / "releases"

    @property
    def store(self) -> Path:
        """The device's database."""
        return self.folder / "device.sqlite"

    @property
    def secret(self) -> Path:
        """32 bytes of the device's own, for drawing probes and for the order of training; made at the first start."""
        return self.folder / "device.secret"

    @property
    def run(self) -> Path:
        """What a running agent leaves for others on this machine: its address, and a lock."""
        return self.folder / "run"

    def settings(self) -> DeviceSettings:
        """Read from `device.toml`. Raises InputError."""
        return read_settings(DeviceSettings, self.settings_file)
