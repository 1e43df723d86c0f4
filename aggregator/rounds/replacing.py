"""A fleet's device model is replaced: another encoder, made anew, becomes the base that rounds go on from.

An operator's act between two rounds, like a rollback: the next round sees that another release is active and trains on from
that. What devices remember are queries and labels, never embeddings, so their labelled queries teach the new head and their
probes judge it at once; the running pairs stay, which speak of what the fleet answered under whatever model. Lost are the
learned head, the optimizer's moments, the fitted temperature and the release's certificate: until the next one everything
escalates.
"""

from aggregator.rounds.interfaces import Registry
from aggregator.rounds.publish import ReleaseMaker
from aggregator.rounds.state import FederationState
from fedge.release import Release


def replace_base(maker: ReleaseMaker, registry: Registry, state: FederationState, *, at: float) -> Release:
    """Publish and promote the first release of ``maker``'s device model in place of ``state``'s release.

    From then on only a `RoundRunner` with this ``maker`` may run the rounds. Raises QualityGateFailed, and InputError.
    """
    first = maker.make(maker.first_head, version=state.version + 1, temperature=1.0, parent=state.release_id)
    registry.publish(first, at=at)
    registry.promote(first.release_id, at=at, reason=f"a new base in place of {state.release_id[:12]}")
    return first
