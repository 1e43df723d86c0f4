"""Decide whether a device trains on a release, and whether the update that it made may leave.

The reasons that speak of the device's own data stay in its log: what leaves are the same words for all of them.
"""

import logging

from edge_client.refusal import SessionRefused
from edge_client.rounds.updates import Contribution
from edge_client.store import DeviceStore
from edge_client.training_policy import TrainingPolicy, training_from_mapping
from fedge.architectures import SHARE_SLACK
from fedge.release import Manifest

_log = logging.getLogger(__name__)


class UpdateWithheld(SessionRefused):
    """This device keeps its update to itself."""

    def __init__(self) -> None:
        super().__init__("this device gives no update to this round, by its own rules")


def check_release(policy: TrainingPolicy, manifest: Manifest, store: DeviceStore, *, now: float) -> None:
    """Raise SessionRefused unless the device trains on such a release, and on its base by now."""
    policy.check(manifest.trained(), training_from_mapping(manifest.training))
    base = store.training.see(manifest.encoder_sha256, at=now)
    if not base.enrolled and now < base.first_seen + policy.base_wait_s:
        raise SessionRefused(
            f"base {base.encoder_sha256[:12]} is new: this device trains on it {policy.base_wait_s:.0f} s after it came"
        )


def check_update(policy: TrainingPolicy, update: Contribution, store: DeviceStore) -> None:
    """Raise UpdateWithheld for an update that would tell too much, or whose release undoes what this device knew."""
    fit, last = update.fit, store.training.last_fit()
    if update.largest_share > policy.max_example_share + SHARE_SLACK:
        raise _withheld(f"one example would hold {update.largest_share:.0%} of it")
    if update.kept < policy.min_kept:
        raise _withheld(f"one example says nearly all of it: within its share it would keep {update.kept:.1%}")
    if fit is None or last is None or last.encoder_sha256 != fit.encoder_sha256 or fit.at - last.at > policy.compare_s:
        return
    rise = fit.missed / fit.examples - last.missed / last.examples
    if rise > policy.allowed_rise(fit.examples, last.examples):
        raise _withheld(f"the release misses {rise:.0%} more on this device's examples than the last that it trained on")


def _withheld(reason: str) -> UpdateWithheld:
    _log.info("this device gives no update: %s", reason)
    return UpdateWithheld()
