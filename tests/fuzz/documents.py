"""What people and operators write: policies, prices, device profiles, settings, csv workloads, a browser's Host header."""

import gzip

from table import Target, scratch

from aggregator.console.auth.policy import named_host
from aggregator.settings import ServerSettings
from aggregator.workbench.workloads.csv_file import load_csv, read_rows
from aggregator.workbench.workloads.data import read_decompressed
from edge_client.settings import DeviceSettings
from fedge.costs import PriceBook
from fedge.costs.figures import packaged_text
from fedge.costs.prices import DEFAULT_BOOK
from fedge.costs.profiles import DEFAULT_PROFILES, profiles_from_toml
from fedge.randomness import root_seed
from fedge.routing import Policy
from fedge.settings import parse_settings, read_settings
from fedge.wire import is_loopback

FOLDER = scratch("documents")
POLICY = """version = 1
error_price_usd = 0.02
[labels.transfer]
rule = "always-central"
error_price_usd = 5
[topics.health]
rule = "never-escalate"
labels = ["pill"]
[budget]
daily_usd = 0.05
[rate]
per_minute = 6
per_hour = 60
burst = 2
[training]
constraint_weight = 9.0
"""
SERVER = """federation = "home"
workload = "csv"
data = "queries.csv"
names = ["localhost"]
fleet_port = 8741
[rounds]
cohort = 32
period_s = 60.5
"""
DEVICE = """device_id = "device-01"
fleet = "127.0.0.1:8741"
central = "127.0.0.1:8742"
keep_days = 30.0
[api]
port = 0
[node]
mode = "off"
"""
ROWS = "text,label,user\n" + "".join(f"question {number},{'abc'[number % 3]},user {number % 4}\n" for number in range(30))
# What a TOML reader written in Python trips over: depth beyond its recursion, digits beyond its integers, empty dates.
HOSTILE = (b"a = " + b"[" * 1_200, b"a = {b = " * 400, b"a = " + b"9" * 5_000, b"a = 0000-01-01", b"a." * 1_100 + b"b = 1")


def text(data):
    return data.decode("utf-8", "replace")


def settings(model):
    return lambda data: parse_settings(model, text(data), source="settings")


def settings_file(data):
    path = FOLDER / "device.toml"
    path.write_bytes(data)
    read_settings(DeviceSettings, path)


def csv_file(data):
    """A csv workload, with or without gzip."""
    path = FOLDER / "workload.csv"
    path.write_bytes(data)
    load_csv(path, seed=root_seed(1), devices=4)


def packed(data):
    path = FOLDER / "packed"
    path.write_bytes(data)
    read_decompressed(path, largest=1 << 16)


def host(data):
    named_host(data.decode("latin-1"))
    named_host(text(data))
    is_loopback(text(data))


_long = {"max_len": 6_144, "runs": 250}
TARGETS = {
    "documents.policy": Target(decode=lambda data: Policy.from_toml(text(data)), seeds=(POLICY.encode(), *HOSTILE), **_long),
    "documents.prices": Target(
        decode=lambda data: PriceBook.from_toml(text(data)), seeds=(packaged_text(DEFAULT_BOOK).encode(), *HOSTILE), **_long
    ),
    "documents.profiles": Target(
        decode=lambda data: profiles_from_toml(text(data)),
        seeds=(packaged_text(DEFAULT_PROFILES).encode(), *HOSTILE),
        runs=150,
        max_len=12_288,
    ),
    "documents.server_settings": Target(decode=settings(ServerSettings), seeds=(SERVER.encode(), *HOSTILE), **_long),
    "documents.device_settings": Target(decode=settings(DeviceSettings), seeds=(DEVICE.encode(), *HOSTILE), **_long),
    "documents.settings_file": Target(decode=settings_file, seeds=(DEVICE.encode(), b"\xff"), runs=500),
    "documents.csv_rows": Target(decode=lambda data: read_rows(data, name="fuzz"), seeds=(ROWS.encode(),)),
    "documents.csv": Target(decode=csv_file, seeds=(ROWS.encode(), gzip.compress(ROWS.encode(), mtime=0)), runs=500),
    "documents.packed": Target(
        decode=packed, seeds=(gzip.compress(b"text", mtime=0), gzip.compress(bytes(1 << 17), mtime=0)), runs=400
    ),
    "documents.host": Target(decode=host, seeds=(b"localhost:8350", b"[::1]:1", b"[", b"127.0.0.1"), max_len=256),
}
