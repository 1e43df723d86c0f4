from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Purpose(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PURPOSE_UNSPECIFIED: _ClassVar[Purpose]
    PURPOSE_UPDATE: _ClassVar[Purpose]
    PURPOSE_COUNTS: _ClassVar[Purpose]
    PURPOSE_HEALTH: _ClassVar[Purpose]
    PURPOSE_USAGE: _ClassVar[Purpose]
PURPOSE_UNSPECIFIED: Purpose
PURPOSE_UPDATE: Purpose
PURPOSE_COUNTS: Purpose
PURPOSE_HEALTH: Purpose
PURPOSE_USAGE: Purpose

class Signed(_message.Message):
    __slots__ = ("body", "signature")
    BODY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    signature: bytes
    def __init__(self, body: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Bundle(_message.Message):
    __slots__ = ("suite", "device_id", "certificate_sha256", "nonce", "mask_key", "channel_key", "seed_sha256", "expires")
    SUITE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_SHA256_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    MASK_KEY_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_KEY_FIELD_NUMBER: _ClassVar[int]
    SEED_SHA256_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_FIELD_NUMBER: _ClassVar[int]
    suite: str
    device_id: str
    certificate_sha256: bytes
    nonce: bytes
    mask_key: bytes
    channel_key: bytes
    seed_sha256: bytes
    expires: float
    def __init__(self, suite: _Optional[str] = ..., device_id: _Optional[str] = ..., certificate_sha256: _Optional[bytes] = ..., nonce: _Optional[bytes] = ..., mask_key: _Optional[bytes] = ..., channel_key: _Optional[bytes] = ..., seed_sha256: _Optional[bytes] = ..., expires: _Optional[float] = ...) -> None: ...

class SignedBundle(_message.Message):
    __slots__ = ("bundle", "signature", "certificate")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    bundle: bytes
    signature: bytes
    certificate: bytes
    def __init__(self, bundle: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., certificate: _Optional[bytes] = ...) -> None: ...

class Configuration(_message.Message):
    __slots__ = ("reals", "integers", "length", "bits", "cohort_max", "quantum", "scale", "clip_norm", "weight_cap", "n_min", "threshold", "consistency_threshold", "deadline", "noise_multiplier")
    REALS_FIELD_NUMBER: _ClassVar[int]
    INTEGERS_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    COHORT_MAX_FIELD_NUMBER: _ClassVar[int]
    QUANTUM_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    CLIP_NORM_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_CAP_FIELD_NUMBER: _ClassVar[int]
    N_MIN_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    NOISE_MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
    reals: int
    integers: int
    length: int
    bits: int
    cohort_max: int
    quantum: int
    scale: float
    clip_norm: float
    weight_cap: int
    n_min: int
    threshold: int
    consistency_threshold: int
    deadline: float
    noise_multiplier: float
    def __init__(self, reals: _Optional[int] = ..., integers: _Optional[int] = ..., length: _Optional[int] = ..., bits: _Optional[int] = ..., cohort_max: _Optional[int] = ..., quantum: _Optional[int] = ..., scale: _Optional[float] = ..., clip_norm: _Optional[float] = ..., weight_cap: _Optional[int] = ..., n_min: _Optional[int] = ..., threshold: _Optional[int] = ..., consistency_threshold: _Optional[int] = ..., deadline: _Optional[float] = ..., noise_multiplier: _Optional[float] = ...) -> None: ...

class RosterEntry(_message.Message):
    __slots__ = ("device_id", "bundle_sha256")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_SHA256_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    bundle_sha256: bytes
    def __init__(self, device_id: _Optional[str] = ..., bundle_sha256: _Optional[bytes] = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("purpose", "period", "release_id", "weights_sha256", "structure_sha256", "canary_release_id", "probe_epsilon", "probe_cap", "architecture", "encoder_sha256", "range_proofs", "probe_store")
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    STRUCTURE_SHA256_FIELD_NUMBER: _ClassVar[int]
    CANARY_RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    PROBE_EPSILON_FIELD_NUMBER: _ClassVar[int]
    PROBE_CAP_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    ENCODER_SHA256_FIELD_NUMBER: _ClassVar[int]
    RANGE_PROOFS_FIELD_NUMBER: _ClassVar[int]
    PROBE_STORE_FIELD_NUMBER: _ClassVar[int]
    purpose: Purpose
    period: int
    release_id: str
    weights_sha256: str
    structure_sha256: str
    canary_release_id: str
    probe_epsilon: float
    probe_cap: int
    architecture: str
    encoder_sha256: str
    range_proofs: bool
    probe_store: int
    def __init__(self, purpose: _Optional[_Union[Purpose, str]] = ..., period: _Optional[int] = ..., release_id: _Optional[str] = ..., weights_sha256: _Optional[str] = ..., structure_sha256: _Optional[str] = ..., canary_release_id: _Optional[str] = ..., probe_epsilon: _Optional[float] = ..., probe_cap: _Optional[int] = ..., architecture: _Optional[str] = ..., encoder_sha256: _Optional[str] = ..., range_proofs: _Optional[bool] = ..., probe_store: _Optional[int] = ...) -> None: ...

class Descriptor(_message.Message):
    __slots__ = ("suite", "run", "round", "attempt", "task", "configuration", "roster", "nonce")
    SUITE_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    suite: str
    run: str
    round: int
    attempt: int
    task: Task
    configuration: Configuration
    roster: _containers.RepeatedCompositeFieldContainer[RosterEntry]
    nonce: bytes
    def __init__(self, suite: _Optional[str] = ..., run: _Optional[str] = ..., round: _Optional[int] = ..., attempt: _Optional[int] = ..., task: _Optional[_Union[Task, _Mapping]] = ..., configuration: _Optional[_Union[Configuration, _Mapping]] = ..., roster: _Optional[_Iterable[_Union[RosterEntry, _Mapping]]] = ..., nonce: _Optional[bytes] = ...) -> None: ...

class Roster(_message.Message):
    __slots__ = ("descriptor", "signature", "bundles")
    DESCRIPTOR_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    BUNDLES_FIELD_NUMBER: _ClassVar[int]
    descriptor: bytes
    signature: bytes
    bundles: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, descriptor: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., bundles: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Dealing(_message.Message):
    __slots__ = ("session_id", "dealer", "receivers")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    DEALER_FIELD_NUMBER: _ClassVar[int]
    RECEIVERS_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    dealer: int
    receivers: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, session_id: _Optional[bytes] = ..., dealer: _Optional[int] = ..., receivers: _Optional[_Iterable[bytes]] = ...) -> None: ...

class DealtShare(_message.Message):
    __slots__ = ("seed_commitment", "key_commitment", "ciphertext")
    SEED_COMMITMENT_FIELD_NUMBER: _ClassVar[int]
    KEY_COMMITMENT_FIELD_NUMBER: _ClassVar[int]
    CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
    seed_commitment: bytes
    key_commitment: bytes
    ciphertext: bytes
    def __init__(self, seed_commitment: _Optional[bytes] = ..., key_commitment: _Optional[bytes] = ..., ciphertext: _Optional[bytes] = ...) -> None: ...

class ShareReply(_message.Message):
    __slots__ = ("dealing", "shares")
    DEALING_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    dealing: Signed
    shares: _containers.RepeatedCompositeFieldContainer[DealtShare]
    def __init__(self, dealing: _Optional[_Union[Signed, _Mapping]] = ..., shares: _Optional[_Iterable[_Union[DealtShare, _Mapping]]] = ...) -> None: ...

class InboundShare(_message.Message):
    __slots__ = ("dealing", "share")
    DEALING_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    dealing: Signed
    share: DealtShare
    def __init__(self, dealing: _Optional[_Union[Signed, _Mapping]] = ..., share: _Optional[_Union[DealtShare, _Mapping]] = ...) -> None: ...

class ShareDelivery(_message.Message):
    __slots__ = ("session_id", "sharers", "inbound")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SHARERS_FIELD_NUMBER: _ClassVar[int]
    INBOUND_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    sharers: _containers.RepeatedScalarFieldContainer[int]
    inbound: _containers.RepeatedCompositeFieldContainer[InboundShare]
    def __init__(self, session_id: _Optional[bytes] = ..., sharers: _Optional[_Iterable[int]] = ..., inbound: _Optional[_Iterable[_Union[InboundShare, _Mapping]]] = ...) -> None: ...

class MaskedVector(_message.Message):
    __slots__ = ("session_id", "device", "sharers_sha256", "vector_blake2b", "range_proof_sha256")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SHARERS_SHA256_FIELD_NUMBER: _ClassVar[int]
    VECTOR_BLAKE2B_FIELD_NUMBER: _ClassVar[int]
    RANGE_PROOF_SHA256_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    device: int
    sharers_sha256: bytes
    vector_blake2b: bytes
    range_proof_sha256: bytes
    def __init__(self, session_id: _Optional[bytes] = ..., device: _Optional[int] = ..., sharers_sha256: _Optional[bytes] = ..., vector_blake2b: _Optional[bytes] = ..., range_proof_sha256: _Optional[bytes] = ...) -> None: ...

class Complaint(_message.Message):
    __slots__ = ("session_id", "complainer", "dealer", "shown", "key")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    COMPLAINER_FIELD_NUMBER: _ClassVar[int]
    DEALER_FIELD_NUMBER: _ClassVar[int]
    SHOWN_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    complainer: int
    dealer: int
    shown: InboundShare
    key: bytes
    def __init__(self, session_id: _Optional[bytes] = ..., complainer: _Optional[int] = ..., dealer: _Optional[int] = ..., shown: _Optional[_Union[InboundShare, _Mapping]] = ..., key: _Optional[bytes] = ...) -> None: ...

class MaskedReply(_message.Message):
    __slots__ = ("vector", "complaint", "range_proof")
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    COMPLAINT_FIELD_NUMBER: _ClassVar[int]
    RANGE_PROOF_FIELD_NUMBER: _ClassVar[int]
    vector: Signed
    complaint: Signed
    range_proof: bytes
    def __init__(self, vector: _Optional[_Union[Signed, _Mapping]] = ..., complaint: _Optional[_Union[Signed, _Mapping]] = ..., range_proof: _Optional[bytes] = ...) -> None: ...

class Consistency(_message.Message):
    __slots__ = ("session_id", "sharers_sha256", "survivors")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SHARERS_SHA256_FIELD_NUMBER: _ClassVar[int]
    SURVIVORS_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    sharers_sha256: bytes
    survivors: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, session_id: _Optional[bytes] = ..., sharers_sha256: _Optional[bytes] = ..., survivors: _Optional[_Iterable[int]] = ...) -> None: ...

class ConsistencyRequest(_message.Message):
    __slots__ = ("consistency",)
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    consistency: bytes
    def __init__(self, consistency: _Optional[bytes] = ...) -> None: ...

class ConsistencyReply(_message.Message):
    __slots__ = ("signature",)
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    signature: bytes
    def __init__(self, signature: _Optional[bytes] = ...) -> None: ...

class Endorsement(_message.Message):
    __slots__ = ("device", "signature")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    device: int
    signature: bytes
    def __init__(self, device: _Optional[int] = ..., signature: _Optional[bytes] = ...) -> None: ...

class UnmaskRequest(_message.Message):
    __slots__ = ("consistency", "endorsements")
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    ENDORSEMENTS_FIELD_NUMBER: _ClassVar[int]
    consistency: bytes
    endorsements: _containers.RepeatedCompositeFieldContainer[Endorsement]
    def __init__(self, consistency: _Optional[bytes] = ..., endorsements: _Optional[_Iterable[_Union[Endorsement, _Mapping]]] = ...) -> None: ...

class RevealedShare(_message.Message):
    __slots__ = ("dealer", "share", "salt")
    DEALER_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    SALT_FIELD_NUMBER: _ClassVar[int]
    dealer: int
    share: bytes
    salt: bytes
    def __init__(self, dealer: _Optional[int] = ..., share: _Optional[bytes] = ..., salt: _Optional[bytes] = ...) -> None: ...

class UnmaskReply(_message.Message):
    __slots__ = ("session_id", "device", "seeds", "keys")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    device: int
    seeds: _containers.RepeatedCompositeFieldContainer[RevealedShare]
    keys: _containers.RepeatedCompositeFieldContainer[RevealedShare]
    def __init__(self, session_id: _Optional[bytes] = ..., device: _Optional[int] = ..., seeds: _Optional[_Iterable[_Union[RevealedShare, _Mapping]]] = ..., keys: _Optional[_Iterable[_Union[RevealedShare, _Mapping]]] = ...) -> None: ...

class Record(_message.Message):
    __slots__ = ("suite", "session_id", "run", "round", "attempt", "survivors", "result_blake2b")
    SUITE_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SURVIVORS_FIELD_NUMBER: _ClassVar[int]
    RESULT_BLAKE2B_FIELD_NUMBER: _ClassVar[int]
    suite: str
    session_id: bytes
    run: str
    round: int
    attempt: int
    survivors: int
    result_blake2b: bytes
    def __init__(self, suite: _Optional[str] = ..., session_id: _Optional[bytes] = ..., run: _Optional[str] = ..., round: _Optional[int] = ..., attempt: _Optional[int] = ..., survivors: _Optional[int] = ..., result_blake2b: _Optional[bytes] = ...) -> None: ...

class PlainBundle(_message.Message):
    __slots__ = ("suite", "device_id", "nonce")
    SUITE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    suite: str
    device_id: str
    nonce: bytes
    def __init__(self, suite: _Optional[str] = ..., device_id: _Optional[str] = ..., nonce: _Optional[bytes] = ...) -> None: ...

class PlainStep(_message.Message):
    __slots__ = ("session_id", "step", "members")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    step: str
    members: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, session_id: _Optional[bytes] = ..., step: _Optional[str] = ..., members: _Optional[_Iterable[int]] = ...) -> None: ...
