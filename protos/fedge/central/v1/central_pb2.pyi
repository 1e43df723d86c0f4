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
    PURPOSE_ESCALATION: _ClassVar[Purpose]
    PURPOSE_PROBE: _ClassVar[Purpose]
    PURPOSE_FORCED: _ClassVar[Purpose]
PURPOSE_UNSPECIFIED: Purpose
PURPOSE_ESCALATION: Purpose
PURPOSE_PROBE: Purpose
PURPOSE_FORCED: Purpose

class Query(_message.Message):
    __slots__ = ("text", "pixels")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    text: str
    pixels: bytes
    def __init__(self, text: _Optional[str] = ..., pixels: _Optional[bytes] = ...) -> None: ...

class AnswerRequest(_message.Message):
    __slots__ = ("idempotency_key", "device_id", "query", "release_id", "purpose")
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    idempotency_key: str
    device_id: str
    query: Query
    release_id: str
    purpose: Purpose
    def __init__(self, idempotency_key: _Optional[str] = ..., device_id: _Optional[str] = ..., query: _Optional[_Union[Query, _Mapping]] = ..., release_id: _Optional[str] = ..., purpose: _Optional[_Union[Purpose, str]] = ...) -> None: ...

class AnswerResponse(_message.Message):
    __slots__ = ("label", "distribution", "answered_by", "price_usd", "price_book", "model")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    DISTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_BY_FIELD_NUMBER: _ClassVar[int]
    PRICE_USD_FIELD_NUMBER: _ClassVar[int]
    PRICE_BOOK_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    label: str
    distribution: _containers.RepeatedScalarFieldContainer[float]
    answered_by: str
    price_usd: float
    price_book: str
    model: str
    def __init__(self, label: _Optional[str] = ..., distribution: _Optional[_Iterable[float]] = ..., answered_by: _Optional[str] = ..., price_usd: _Optional[float] = ..., price_book: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("labels", "model", "price_book", "max_text_bytes", "pixels")
    LABELS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PRICE_BOOK_FIELD_NUMBER: _ClassVar[int]
    MAX_TEXT_BYTES_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedScalarFieldContainer[str]
    model: str
    price_book: str
    max_text_bytes: int
    pixels: int
    def __init__(self, labels: _Optional[_Iterable[str]] = ..., model: _Optional[str] = ..., price_book: _Optional[str] = ..., max_text_bytes: _Optional[int] = ..., pixels: _Optional[int] = ...) -> None: ...
