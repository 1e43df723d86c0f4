from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
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

class CheckInRequest(_message.Message):
    __slots__ = ("round", "attempt", "purpose", "release_id", "publication", "canary_release_id")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    PUBLICATION_FIELD_NUMBER: _ClassVar[int]
    CANARY_RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    round: int
    attempt: int
    purpose: Purpose
    release_id: str
    publication: int
    canary_release_id: str
    def __init__(self, round: _Optional[int] = ..., attempt: _Optional[int] = ..., purpose: _Optional[_Union[Purpose, str]] = ..., release_id: _Optional[str] = ..., publication: _Optional[int] = ..., canary_release_id: _Optional[str] = ...) -> None: ...

class CheckInResponse(_message.Message):
    __slots__ = ("device_id", "bundle")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    bundle: bytes
    def __init__(self, device_id: _Optional[str] = ..., bundle: _Optional[bytes] = ...) -> None: ...
