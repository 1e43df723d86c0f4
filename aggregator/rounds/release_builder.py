"""From a new head to a signed release: int8 export, quality gate, manifest, signature.

The gate compares the int8 model with its float32 twin on held-out queries of the server's own part: a release that answers
differently because of its quantization is never signed. Nor is one that is right on fewer of them than the best release so
far: the sum that made it may hold a liar's update, and a slide in small steps stops where a single step would.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aggregator.releases.signer import ReleaseKey, sign_release_with
from fedge.architectures import Architecture
from fedge.errors import FedgeError
from fedge.release import (
    INFER,
    WEIGHTS,
    Manifest,
    Release,
    SelfTest,
    Weights,
    encoder_sha256,
    file_hashes,
    structure_sha256,
    weights_sha256,
    write_safetensors,
)
from fedge.routing.confidence import ConfidenceKind

HELD_OUT_ACCURACY = "held_out_accuracy"
MIN_AGREEMENT = 0.985
DISCORDANT = 0.04
"""Share of held-out queries on which only one of two honest releases is right; measured between rounds: at most 0.03."""
DEVIATIONS = 2.5


class QualityGateFailed(FedgeError):  # noqa: N818 - an outcome of a round
    """The int8 model answers too often otherwise than its float32 twin, or is right too seldom."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How a head did on the server's own held-out labeled queries, which trained nothing and measure no simulation."""

    right: int
    queries: int

    @property
    def accuracy(self) -> float:
        """The share of queries that it answers with their label."""
        return self.right / self.queries

    @property
    def allowed_drop(self) -> float:
        """How far accuracy may fall by chance: 2.5 standard deviations of the paired difference of two honest releases."""
        return DEVIATIONS * math.sqrt(DISCORDANT / self.queries)


@dataclass(frozen=True, slots=True)
class Export:
    """What the workbench makes of a head: the int8 model, its agreement with float32, its self-test, and how it does on
    held-out queries; None where there are none with a label, and then releases are not compared.
    """

    infer: bytes
    agreement: float
    self_test: SelfTest
    held_out: HeldOut | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseMaker:
    """Everything about a release that does not change from round to round, and how a head becomes a model."""

    workload: str
    labels: tuple[str, ...]
    oos_label: str | None
    features: Mapping[str, Any]
    architecture: Architecture
    first_head: Weights
    training: Mapping[str, float | str]
    threshold_grid: tuple[float, ...]
    confidence: ConfidenceKind
    price_book: str
    export: Callable[[Weights], Export]
    release_key: ReleaseKey

    def is_base_of(self, release: Release) -> bool:
        """Whether ``release`` is this device model with some head: rounds on another would train heads that fit none.

        Its manifest names the frozen base by hash, and verified releases have the base that they name.
        """
        manifest = release.manifest
        if manifest.trained() != self.architecture:
            return False
        return manifest.encoder_sha256 == encoder_sha256(self.export(release.weights()).infer)

    def make(
        self,
        head: Weights,
        *,
        version: int,
        temperature: float,
        parent: str | None,
        best_accuracy: float | None = None,
    ) -> Release:
        """A signed release around ``head``. Raises QualityGateFailed, also where it falls below the ``best_accuracy`` of
        the releases so far by more than chance.
        """
        export = self.export(head)
        held_out = export.held_out
        if held_out is not None and best_accuracy is not None:
            least = best_accuracy - held_out.allowed_drop
            if held_out.accuracy < least:
                raise QualityGateFailed(
                    f"the new release is right on {held_out.accuracy:.1%} of the server's held-out queries; the best one "
                    f"so far was on {best_accuracy:.1%}, and chance allows {least:.1%}"
                )
        if export.agreement < MIN_AGREEMENT:
            raise QualityGateFailed(
                f"the int8 model agrees with float32 on {export.agreement:.1%} of held-out queries; "
                f"{MIN_AGREEMENT:.1%} are required"
            )
        files = {INFER: export.infer, WEIGHTS: write_safetensors(head)}
        manifest = Manifest(
            version=version,
            workload=self.workload,
            labels=self.labels,
            oos_label=self.oos_label,
            features=self.features,
            files=file_hashes(files),
            architecture=self.architecture.to_mapping(),
            encoder_sha256=encoder_sha256(export.infer),
            weights_sha256=weights_sha256(head),
            structure_sha256=structure_sha256(head),
            threshold_grid=self.threshold_grid,
            temperature=temperature,
            confidence=self.confidence,
            price_book=self.price_book,
            self_test=export.self_test,
            metrics={
                "int8_agreement": export.agreement,
                **({} if held_out is None else {HELD_OUT_ACCURACY: held_out.accuracy}),
            },
            parent=parent,
            training=self.training,
        )
        return sign_release_with(self.release_key, manifest, files)
