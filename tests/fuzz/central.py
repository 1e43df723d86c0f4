"""The fallback service: requests as central reads them, its answers as a device reads them."""

import numpy as np
from program import Program
from sessions import altered, outer
from table import Target

from aggregator.central import CentralService, Limits, Pricing
from edge_client.inference.escalation import _checked
from fedge.costs import PriceBook
from fedge.errors import FedgeError
from fedge.wire import answer_request, check_idempotency_key, query_from_proto
from protos.fedge.central.v1 import central_pb2 as pb


class Oracle:
    """Answers everything alike: what is under test comes before the model."""

    def predict(self, queries):
        return np.full((len(queries), 2), 0.5, dtype=np.float32)


SERVICE = CentralService(
    model=Oracle(),
    model_name="oracle",
    labels=("on", "off"),
    pricing=Pricing.from_book(PriceBook.load_default()),
    limits=Limits(max_text_bytes=256, pixels=4),
    clock=lambda: 0.0,
    max_remembered=64,
)
REQUESTS = [
    answer_request(idempotency_key="1-ab", device_id="device-01", query=query, release_id="", purpose=pb.PURPOSE_ESCALATION)
    for query in ("lights on", np.float32([0.0, 0.5, 1.0, 1.0]))
]
ANSWER = SERVICE.answer(REQUESTS[0])


def parsed(kind, data):
    """The message as gRPC reads it; what gRPC itself refuses never reaches fedge."""
    message = kind()
    try:
        message.ParseFromString(data)
    except Exception as error:
        raise FedgeError("gRPC refuses it") from error
    return message


def query(data):
    query_from_proto(parsed(pb.Query, data))


def request(data):
    """An AnswerRequest: bytes, or after a first byte of 1 or 2 a program that edits a text or a pixel request."""
    if data[:1] in (b"\1", b"\2"):
        data = altered(REQUESTS[data[0] - 1], Program(data[1:]))
    SERVICE.answer(parsed(pb.AnswerRequest, data))


def answer(data):
    outcome = _checked(parsed(pb.AnswerResponse, outer(ANSWER, Program(data))))
    assert outcome.label and outcome.price_usd >= 0


def key(data):
    check_idempotency_key(data.decode("utf-8", "surrogateescape"))


TARGETS = {
    "central.query": Target(decode=query, seeds=tuple(request.query.SerializeToString() for request in REQUESTS)),
    "central.request": Target(decode=request, seeds=(REQUESTS[0].SerializeToString(), b"\1", b"\2"), runs=2_000),
    "central.answer": Target(decode=answer, seeds=(b"", b"\1")),
    "central.idempotency_key": Target(decode=key, seeds=(b"1-ab",)),
}
