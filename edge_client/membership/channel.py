"""The device's way to the fleet door: a mutual-TLS channel that is opened anew when certificates were renewed.

Calls that run on the old channel end in peace. Never decides when to renew: see `edge_client.membership.renewal`.

Which proxy a connection takes, by the usual variables (https_proxy, all_proxy, no_proxy, in either case).

gRPC reads some of these by itself, in lower case only and for loopback too; here the answer is given once for every channel.
"""

from threading import Lock
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]  # not in typeshed

import grpc

from edge_client.settings import DeviceHome
from fedge.errors import InputError
from fedge.identity.files import read_file
from fedge.wire import RETRY_LATER, is_loopback

MAX_MESSAGE_BYTES = 16 << 20
ChannelOption = tuple[str, str | int]


def credentials(home: DeviceHome) -> grpc.ChannelCredentials:
    """The device's own, as they stand on its disk now: for the door and for central. Raises InputError."""
    return grpc.ssl_channel_credentials(
        root_certificates=read_file(home.tls_authority),
        private_key=read_file(home.tls_key),
        certificate_chain=read_file(home.tls_certificate),
    )


def channel_options(server_name: str | None, *, max_message_bytes: int = MAX_MESSAGE_BYTES) -> list[ChannelOption]:
    """gRPC options. ``server_name``: the name in the server's certificate where it differs from the host dialled."""
    named: list[ChannelOption] = [("grpc.ssl_target_name_override", server_name)] if server_name else []
    return [
        *named,
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.use_local_subchannel_pool", 1),  # a channel with new certificates must not share an old connection
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 10_000),  # in truth the time that one attempt to connect may take
        ("grpc.max_reconnect_backoff_ms", 10_000),
    ]


def is_marked_for_later(error: Exception) -> bool:
    """Return whether a server refused a call for a reason that passes with time: a limit that the device or all have met."""
    trailing = error.trailing_metadata() if isinstance(error, grpc.Call) else None
    return any(key == RETRY_LATER for key, _ in trailing or ())


class DoorChannel:
    """A callable that gives the channel of the moment. Safe to use from several threads."""

    def __init__(self, home: DeviceHome, address: str, *, server_name: str | None = None) -> None:
        self._home = home
        self._address = address
        self._options = [*channel_options(server_name), *proxy_options(address)]
        self._lock = Lock()
        self._stamp: object = None
        self._channel: grpc.Channel | None = None
        self._retired: grpc.Channel | None = None

    def __call__(self) -> grpc.Channel:
        """The channel, made with the certificates that stand on disk now. Raises InputError."""
        with self._lock:
            stamp = self._files()
            if self._channel is None or stamp != self._stamp:
                fresh = grpc.secure_channel(self._address, credentials(self._home), self._options)
                # Closing a channel cancels its calls: the old one lives until the next renewal, hours later.
                if self._retired is not None:
                    self._retired.close()
                self._retired, self._channel, self._stamp = self._channel, fresh, stamp
            return self._channel

    def close(self) -> None:
        """Closes what is open. The next call opens a new channel."""
        with self._lock:
            for channel in (self._channel, self._retired):
                if channel is not None:
                    channel.close()
            self._channel = self._retired = self._stamp = None

    def _files(self) -> object:
        try:
            return [
                (found.st_mtime_ns, found.st_ino)
                for found in (path.stat() for path in (self._home.tls_authority, self._home.tls_certificate))
            ]
        except OSError as error:
            raise InputError(f"{self._home.folder}: {error.strerror}: enroll this device first") from None


def proxy_options(address: str) -> list[ChannelOption]:
    """gRPC channel options for ``host:port``: the proxy that the environment names, or none at all."""
    proxies = getproxies_environment()
    proxy = proxies.get("https") or proxies.get("all")
    host = address.rpartition(":")[0].strip("[]")
    if not proxy or is_loopback(address) or proxy_bypass_environment(host, proxies):
        return [("grpc.enable_http_proxy", 0)]
    return [("grpc.enable_http_proxy", 1), ("grpc.http_proxy", proxy if "://" in proxy else f"http://{proxy}")]
