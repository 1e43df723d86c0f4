from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PHASE_UNSPECIFIED: _ClassVar[Phase]
    PHASE_BUNDLED: _ClassVar[Phase]
    PHASE_SHARED: _ClassVar[Phase]
    PHASE_MASKED: _ClassVar[Phase]
    PHASE_AGREED: _ClassVar[Phase]
    PHASE_REVEALED: _ClassVar[Phase]
    PHASE_COMPLAINED: _ClassVar[Phase]
    PHASE_ERASED: _ClassVar[Phase]
PHASE_UNSPECIFIED: Phase
PHASE_BUNDLED: Phase
PHASE_SHARED: Phase
PHASE_MASKED: Phase
PHASE_AGREED: Phase
PHASE_REVEALED: Phase
PHASE_COMPLAINED: Phase
PHASE_ERASED: Phase

class OwnSecrets(_message.Message):
    __slots__ = ("mask_key", "channel_key", "seed", "dealing_seed")
    MASK_KEY_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_KEY_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    DEALING_SEED_FIELD_NUMBER: _ClassVar[int]
    mask_key: bytes
    channel_key: bytes
    seed: bytes
    dealing_seed: bytes
    def __init__(self, mask_key: _Optional[bytes] = ..., channel_key: _Optional[bytes] = ..., seed: _Optional[bytes] = ..., dealing_seed: _Optional[bytes] = ...) -> None: ...

class Peer(_message.Message):
    __slots__ = ("identity_key", "mask_key", "channel_key", "seed_sha256")
    IDENTITY_KEY_FIELD_NUMBER: _ClassVar[int]
    MASK_KEY_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_KEY_FIELD_NUMBER: _ClassVar[int]
    SEED_SHA256_FIELD_NUMBER: _ClassVar[int]
    identity_key: bytes
    mask_key: bytes
    channel_key: bytes
    seed_sha256: bytes
    def __init__(self, identity_key: _Optional[bytes] = ..., mask_key: _Optional[bytes] = ..., channel_key: _Optional[bytes] = ..., seed_sha256: _Optional[bytes] = ...) -> None: ...

class HeldShare(_message.Message):
    __slots__ = ("dealer", "seed_share", "seed_salt", "key_share", "key_salt")
    DEALER_FIELD_NUMBER: _ClassVar[int]
    SEED_SHARE_FIELD_NUMBER: _ClassVar[int]
    SEED_SALT_FIELD_NUMBER: _ClassVar[int]
    KEY_SHARE_FIELD_NUMBER: _ClassVar[int]
    KEY_SALT_FIELD_NUMBER: _ClassVar[int]
    dealer: int
    seed_share: bytes
    seed_salt: bytes
    key_share: bytes
    key_salt: bytes
    def __init__(self, dealer: _Optional[int] = ..., seed_share: _Optional[bytes] = ..., seed_salt: _Optional[bytes] = ..., key_share: _Optional[bytes] = ..., key_salt: _Optional[bytes] = ...) -> None: ...

class DeviceState(_message.Message):
    __slots__ = ("phase", "device_id", "identity_key", "bundle", "secrets", "descriptor", "peers", "sharers", "survivors", "held", "request_sha256", "reply", "vector")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_KEY_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTOR_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    SHARERS_FIELD_NUMBER: _ClassVar[int]
    SURVIVORS_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    REQUEST_SHA256_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    phase: Phase
    device_id: str
    identity_key: bytes
    bundle: bytes
    secrets: OwnSecrets
    descriptor: bytes
    peers: _containers.RepeatedCompositeFieldContainer[Peer]
    sharers: _containers.RepeatedScalarFieldContainer[int]
    survivors: _containers.RepeatedScalarFieldContainer[int]
    held: _containers.RepeatedCompositeFieldContainer[HeldShare]
    request_sha256: bytes
    reply: bytes
    vector: bytes
    def __init__(self, phase: _Optional[_Union[Phase, str]] = ..., device_id: _Optional[str] = ..., identity_key: _Optional[bytes] = ..., bundle: _Optional[bytes] = ..., secrets: _Optional[_Union[OwnSecrets, _Mapping]] = ..., descriptor: _Optional[bytes] = ..., peers: _Optional[_Iterable[_Union[Peer, _Mapping]]] = ..., sharers: _Optional[_Iterable[int]] = ..., survivors: _Optional[_Iterable[int]] = ..., held: _Optional[_Iterable[_Union[HeldShare, _Mapping]]] = ..., request_sha256: _Optional[bytes] = ..., reply: _Optional[bytes] = ..., vector: _Optional[bytes] = ...) -> None: ...
