"""From a new head to a signed release: int8 export, quality gate, manifest, signature.

The gate compares the int8 model with its float32 twin on held-out queries of the server's own part: a release that answers
differently because of its quantization is never signed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

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
    sign_release,
    structure_sha256,
    weights_sha256,
    write_safetensors,
)
from fedge.routing.confidence import ConfidenceKind

MIN_AGREEMENT = 0.985


class QualityGateFailed(FedgeError):  # noqa: N818 - an outcome of a round
    """The int8 model answers too often otherwise than its float32 twin."""


@dataclass(frozen=True, slots=True)
class Export:
    """What the workbench makes of a head: the int8 model, its agreement with float32, and its self-test."""

    infer: bytes
    agreement: float
    self_test: SelfTest


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
    release_key: Ed25519PrivateKey

    def is_base_of(self, release: Release) -> bool:
        """Whether ``release`` is this device model with some head: rounds on another would train heads that fit none.

        Its manifest names the frozen base by hash, and verified releases have the base that they name.
        """
        manifest = release.manifest
        if manifest.trained() != self.architecture:
            return False
        return manifest.encoder_sha256 == encoder_sha256(self.export(release.weights()).infer)

    def make(self, head: Weights, *, version: int, temperature: float, parent: str | None) -> Release:
        """A signed release around ``head``. Raises QualityGateFailed."""
        export = self.export(head)
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
            metrics={"int8_agreement": export.agreement},
            parent=parent,
            training=self.training,
        )
        return sign_release(manifest, files, self.release_key)
