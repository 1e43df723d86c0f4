"""Which proxy a connection takes, by the usual variables (https_proxy, all_proxy, no_proxy, in either case).

gRPC reads some of these by itself, in lower case only and for loopback too; here the answer is given once for every channel.
"""

from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]  # not in typeshed

from fedge.wire import is_loopback

ChannelOption = tuple[str, str | int]


def proxy_options(address: str) -> list[ChannelOption]:
    """gRPC channel options for ``host:port``: the proxy that the environment names, or none at all."""
    proxies = getproxies_environment()
    proxy = proxies.get("https") or proxies.get("all")
    host = address.rpartition(":")[0].strip("[]")
    if not proxy or is_loopback(address) or proxy_bypass_environment(host, proxies):
        return [("grpc.enable_http_proxy", 0)]
    return [("grpc.enable_http_proxy", 1), ("grpc.http_proxy", proxy if "://" in proxy else f"http://{proxy}")]
