"""What a release is worth, measured on the third of the data that no one trained on.

Every test query is put through the same session, confidence and routing decision as a device's; nothing is asked, stored or
learned, and no probe is drawn: probes would go to central whatever the model says.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aggregator.workbench.workloads.base import Workload
from edge_client.releases.inference import InferenceSession
from fedge.release.manifest import Manifest
from fedge.routing.confidence import confidence, softmax
from fedge.routing.constraint import Violations
from fedge.routing.policy import Policy
from fedge.routing.router import RULED, route
from sim.selective import selective_figures, threshold_counts


@dataclass(frozen=True, slots=True)
class Measurement:
    """Shares in [0, 1]. ``local_disagreement`` is None while nothing is answered locally."""

    fallback_rate: float
    accuracy: dict[str, float]
    accuracy_in_scope: dict[str, float]
    local_disagreement: float | None
    local: int


@dataclass(frozen=True, slots=True, eq=False)
class TestAnswers:
    """What the device said to every test query: ``own`` label int64 [n], how ``sure`` float64 [n], ``local`` bool [n].

    ``human`` bool [n]: those that policy leaves to a person. ``ruled`` bool [n]: those that a rule of the policy decided.
    """

    own: NDArray[np.int64]
    sure: NDArray[np.float64]
    local: NDArray[np.bool_]
    human: NDArray[np.bool_]
    ruled: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TestSet:
    """The test third with central's answers to it, int64 [n]."""

    workload: Workload
    central: NDArray[np.int64]

    def answers(
        self, session: InferenceSession, manifest: Manifest, threshold: float | None, policy: Policy, price_usd: float
    ) -> TestAnswers:
        """Answer and route every test query under ``threshold``."""
        workload, labels = self.workload, manifest.labels
        probabilities = softmax(session.predict(list(workload.test.queries)).logits, manifest.temperature)
        sure = confidence(probabilities, manifest.confidence)
        own = probabilities.argmax(axis=1)
        routes = [
            route(
                label=labels[label],
                confidence=float(level),
                threshold=threshold,
                policy=policy,
                is_probe=False,
                online=True,
                central_price_usd=price_usd,
                oos_label=manifest.oos_label,
            )
            for label, level in zip(own, sure, strict=True)
        ]
        return TestAnswers(
            own.astype(np.int64),
            np.asarray(sure, dtype=np.float64),
            local=np.array([one.answered_by == "device" for one in routes]),
            human=np.array([one.answered_by == "human" for one in routes]),
            ruled=np.array([one.reason in RULED for one in routes]),
        )

    def violations(self, answers: TestAnswers, policy: Policy) -> Violations:
        """How often the rules were broken, by central's labels."""
        labels = self.workload.labels
        by = np.where(answers.local, "device", np.where(answers.human, "human", "central"))
        rows = zip(self.central, by, answers.ruled, strict=True)
        return Violations.count(policy, ((labels[label], str(who), bool(ruled)) for label, who, ruled in rows))

    def measure(self, answers: TestAnswers) -> Measurement:
        """Shares of right answers and of disagreement. A person is taken to answer as central would."""
        workload, own, local = self.workload, answers.own, answers.local
        truth = workload.test.labels
        said = {"device": own, "system": np.where(local, own, self.central), "central": self.central}
        in_scope = workload.in_scope(workload.test)
        disagreed = own[local] != self.central[local]
        return Measurement(
            fallback_rate=float(1.0 - (local | answers.human).mean()),
            accuracy={name: float((answer == truth).mean()) for name, answer in said.items()},
            accuracy_in_scope={name: float((answer == truth)[in_scope].mean()) for name, answer in said.items()},
            local_disagreement=float(disagreed.mean()) if local.any() else None,
            local=int(local.sum()),
        )


def routing_figures(test: TestSet, answers: TestAnswers, seed: bytes) -> dict[str, Any]:
    """The summary's ``routing``: what the confidence of the last round's release is worth, and what its threshold did."""
    truth, in_scope = test.workload.test.labels, test.workload.in_scope(test.workload.test)
    return {
        **selective_figures(answers.sure, answers.own, test.central, truth, in_scope, seed=seed),
        "threshold": threshold_counts(answers.own, test.central, truth, answers.local, in_scope),
    }
