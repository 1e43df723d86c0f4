"""A device's policy: the file that its settings name, read once at the start. Decides nothing."""

import logging
from pathlib import Path

from edge_client.settings import DeviceHome, DeviceSettings
from fedge.errors import InputError
from fedge.routing import Policy
from fedge.toml import read_toml_text

_log = logging.getLogger(__name__)


def policy_path(home: DeviceHome, settings: DeviceSettings) -> Path | None:
    """Where the policy stands; a relative path is taken from the device's folder."""
    return None if settings.policy is None else home.folder / settings.policy.expanduser()


def load_policy(path: Path | None) -> Policy:
    """The policy in a file, the default one for None. Raises InputError for a file that cannot be read or used."""
    if path is None:
        return Policy.default()
    try:
        policy = Policy.from_toml(read_toml_text(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"policy {path} cannot be read: {error}") from None
    for topic in sorted(set(policy.topic_rules) - set(policy.topic_labels)):
        _log.warning("policy: topics.%s lists no labels: it holds for callers alone that name the topic", topic)
    return policy
