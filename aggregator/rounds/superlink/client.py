"""The aggregator's side of SuperLink: which nodes are known, and a run to send messages in.

The one adapter around flwr's private server parts. The rounds process plays Flower's executor: it starts a run whose bundle
holds no code, takes the run's task, and calls its own installed `ServerApp` with a `Grid` of that task. No code travels.
"""

import io
import logging
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from typing import cast

import httpx
from flwr.app import Context, Message, RecordDict
from flwr.app.message.message import make_message
from flwr.common.constant import Status, SubStatus
from flwr.common.serde import context_from_proto, run_from_proto
from flwr.common.serde_utils import metadata_from_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.proto.fab_pb2 import Fab
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ObjectTree
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullAppMessagesRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.serverapp import Grid
from flwr.supercore.constant import TASK_TOKEN_HEADER, TaskType
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectUnavailableError,
    inflate_object_from_contents,
)
from flwr.supercore.interceptors import (
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.interceptors.http.utils import add_headers
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid

from aggregator.rounds.superlink.direct import GUARD_HEADER
from aggregator.rounds.superlink.process import SuperLinkFiles
from aggregator.rounds.superlink.runtime_client import QuickRuntimeClient, SuperLinkLost
from aggregator.rounds.transport import UNREADABLE
from fedge.flower import check_flower

_log = logging.getLogger(__name__)

HEARTBEAT_S = 10.0
OBJECT_POLL_S = 0.02
OBJECT_TIMEOUT_S = 30.0
CLIENT_APP = "edge_client.flower.app:app"
"""What an official SuperNode loads from the package that is installed beside it."""

_BUNDLE = f"""[project]
name = "fedge"
version = "1.0.0"
description = "Rounds of fedge. Holds no code: both ends run what is installed."
license = "Apache-2.0"

[tool.flwr.app]
publisher = "fedge"

[tool.flwr.app.components]
serverapp = "aggregator.rounds.coordinator:build_server_app"
clientapp = "{CLIENT_APP}"
"""


@dataclass(frozen=True, slots=True)
class KnownNode:
    """A node as SuperLink has it."""

    node_id: int
    public_key: bytes
    online: bool


class _GuardHeader:
    """Adds what the guard in front of SuperLink asks for."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        add_headers(context.request, {GUARD_HEADER: self._secret})
        return call_next(context)


class SuperLink:
    """A client of one SuperLink. Every method raises SuperLinkLost when it does not answer."""

    def __init__(self, address: str, files: SuperLinkFiles) -> None:
        check_flower(version("flwr"))
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it names every request otherwise
        self._refused: set[str] = set()
        self._address = address
        self._secret = files.secret.read_text(encoding="ascii").strip()
        self._certificate = files.certificate.read_bytes()
        self._control = ControlHttpClient.from_server_address(address, False, self._certificate, [self._guard()])

    def nodes(self) -> list[KnownNode]:
        """Every node that is registered now."""
        with _lost():
            listed = self._control.ListNodes(ListNodesRequest()).nodes_info
        return [
            KnownNode(node.node_id, node.public_key, node.status == "online")
            for node in listed
            if node.status != "unregistered"
        ]

    def register_node(self, public_key: bytes) -> int:
        """Let the node with this key (P-384, PEM) in, and return its id; a known key keeps its id."""
        with _lost():
            for node in self.nodes():
                if node.public_key == public_key:
                    return node.node_id
            return int(self._control.RegisterNode(RegisterNodeRequest(public_key=public_key)).node_id)

    def unregister_node(self, node_id: int) -> None:
        """Shut a node out: its next request is refused."""
        with _lost():
            self._control.UnregisterNode(UnregisterNodeRequest(node_id=node_id))

    def reconcile(self, wanted: Mapping[str, bytes]) -> dict[int, str]:
        """Make the registered nodes those of ``wanted`` (device id to node key); returns device ids by node id."""
        known = {node.public_key: node.node_id for node in self.nodes()}
        device_of = {key: device for device, key in wanted.items()}
        for key, node_id in known.items():
            if key not in device_of:
                self.unregister_node(node_id)
        found = {known.get(key) or self._register(key, device): device for key, device in device_of.items()}
        return {node_id: device for node_id, device in found.items() if node_id is not None}

    def _register(self, public_key: bytes, device: str) -> int | None:
        """None where SuperLink refuses the key: it takes none twice that was shut out, and one device must not stop all."""
        with _lost():
            try:
                return int(self._control.RegisterNode(RegisterNodeRequest(public_key=public_key)).node_id)
            except httpx.HTTPStatusError as error:
                if device not in self._refused:
                    self._refused.add(device)
                    _log.warning(
                        "device %s takes no part: SuperLink refuses its node key (%s); enroll it with a new one",
                        device,
                        error.response.text[:200],
                    )
                return None

    @contextmanager
    def run(self) -> Iterator[tuple[Grid, Context]]:
        """A new run: a `Grid` for its messages and the context for a `ServerApp`. Earlier runs are stopped."""
        with _lost():
            self._stop_runs()
            bundle = _bundle()
            started = self._control.StartRun(StartRunRequest(fab=Fab(hash_str=sha256(bundle).hexdigest(), content=bundle)))
            token = self._take_task(started.run_id)
            headers = {GUARD_HEADER: self._secret, TASK_TOKEN_HEADER: token}
            grid = SuperLinkGrid(QuickRuntimeClient(self._address, self._certificate, headers), token)
        heart = _Heartbeat(grid.client)
        outcome = SubStatus.FAILED
        try:
            with _lost():
                given = grid.client.PullTaskInput(PullTaskInputRequest())
                TaskIdentity.task_id, TaskIdentity.run_id = given.task_id, given.run.run_id
                TaskIdentity.node_id = given.context.node_id
                grid.set_run(run_from_proto(given.run))
                heart.start()
                yield grid, context_from_proto(given.context)
            outcome = SubStatus.COMPLETED
        finally:
            heart.stop()
            with suppress(SuperLinkLost):
                grid.client.PushTaskOutput(PushTaskOutputRequest(sub_status=outcome, details=""))
            grid.close()

    def close(self) -> None:
        """Give the connections back."""
        self._control.close()

    def _stop_runs(self) -> None:
        runs = self._control.ListRuns(ListRunsRequest()).run_dict
        for run_id, run in runs.items():
            if run.status.status != Status.FINISHED:
                self._control.StopRun(StopRunRequest(run_id=run_id))

    def _take_task(self, run_id: int) -> str:
        """The token of the run's task, claimed as Flower's executor would."""
        authentication = SuperExecAuthHttpInterceptor(
            master_secret=self._secret.encode(), protected_methods=["/flwr.proto.Runtime/AcquireTask"]
        )
        headers = RuntimeVersionHttpInterceptor(component_name="flwr-serverapp")
        with RuntimeHttpClient.from_server_address(
            self._address, False, self._certificate, [self._guard(), headers, authentication]
        ) as client:
            taken = client.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP]))
        if not taken.HasField("task") or taken.task.run_id != run_id:
            raise SuperLinkLost("SuperLink gave another run's task than the one that was started: it is begun again")
        return str(taken.token)

    def _guard(self) -> _GuardHeader:
        return _GuardHeader(self._secret)


class SuperLinkGrid(HttpGrid):
    """Flower's `HttpGrid`, but replies are handed on one by one as their bytes arrive, without its waits of seconds."""

    def __init__(self, client: RuntimeHttpClient, token: str) -> None:
        super().__init__(token=token)
        self._client = client

    @property
    def client(self) -> RuntimeHttpClient:
        """The connection to the run's own API."""
        return self._runtime_client

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """Replies to these messages that are there now; each is fetched only when the caller takes it."""
        given = self.client.PullMessages(PullAppMessagesRequest(message_ids=list(message_ids)))
        for header, tree in zip(given.messages_list, given.message_object_trees, strict=True):
            message_id = header.metadata.message_id
            try:
                contents = self._contents(tree)
            except ObjectPullError:
                continue  # its sender went away between announcing and sending it: no answer, then
            self.client.ConfirmMessageReceived(
                ConfirmMessageReceivedRequest(node=self.node, run_id=self.run.run_id, message_object_id=message_id)
            )
            try:
                message = cast(Message, inflate_object_from_contents(message_id, contents))
            except UNREADABLE as error:
                _log.warning(
                    "a reply of node %d cannot be put together: %s", header.metadata.src_node_id, type(error).__name__
                )
                # Without content, so that it is refused as what it is and the others' replies come through.
                message = make_message(metadata=metadata_from_proto(header.metadata), content=RecordDict())
            message.metadata.__dict__["_message_id"] = message_id
            yield message

    def _contents(self, tree: ObjectTree) -> dict[str, bytes]:
        pull = make_pull_object_fn_protobuf(self.client.PullObject, self.node, self.run.run_id)
        return {part.object_id: _patiently(pull, part.object_id) for part in iterate_object_tree(tree)}


def _patiently(pull: Callable[[str], bytes], object_id: str) -> bytes:
    """A node announces a reply before it sends the parts: wait for one, but not for ever."""
    deadline = time.monotonic() + OBJECT_TIMEOUT_S
    while True:
        try:
            return pull(object_id)
        except ObjectUnavailableError:
            if time.monotonic() > deadline:
                raise ObjectPullError(object_id, "announced but never sent") from None
            time.sleep(OBJECT_POLL_S)


class _Heartbeat:
    """Tells SuperLink that the run is alive. When it does not answer, the next message of the run will fail and say so."""

    def __init__(self, client: RuntimeHttpClient) -> None:
        self._client = client
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="superlink-heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _beat(self) -> None:
        while not self._stopped.wait(HEARTBEAT_S):
            with suppress(SuperLinkLost):
                self._client.SendTaskHeartbeat(SendTaskHeartbeatRequest())


@contextmanager
def _lost() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPStatusError as error:
        raise SuperLinkLost(
            f"SuperLink refused {error.request.url.path}: {error.response.status_code} {error.response.text[:200]}"
        ) from error
    except httpx.HTTPError as error:
        raise SuperLinkLost(f"SuperLink does not answer: {error!r}") from error


def _bundle() -> bytes:
    """A Flower app bundle without code; equal bytes every time."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as bundle:
        digest = sha256(_BUNDLE.encode()).hexdigest()
        bundle.writestr(zipfile.ZipInfo("pyproject.toml"), _BUNDLE)
        bundle.writestr(zipfile.ZipInfo(".info/CONTENT"), f"pyproject.toml,{digest},{8 * len(_BUNDLE.encode())}")
    return stream.getvalue()
