"""How long a query and a training step take on one core of this machine, by kind of device model: the times from which
fedge/costs/data's device profiles are scaled. CPU time of the thread: of each turn the median query, of all turns the
quietest, since other work on a machine only ever adds. The workloads take turns.

    OMP_NUM_THREADS=1 python benchmarks/model_times.py [digits home clinc150]
"""

import statistics
import sys
import time
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aggregator.wiring import release_maker
from aggregator.workbench.device_model import build_device_model
from aggregator.workbench.preparation import prepared_workload
from aggregator.workbench.workloads import Workload, WorkloadFacts
from edge_client.inference.query import opinions
from edge_client.releases.inference import LoadedRelease, ReleaseLoader
from edge_client.rounds.learner import train
from edge_client.training_policy import training_from_mapping
from fedge.costs import PriceBook

TURNS = 15
QUERIES = 500
EXAMPLES = 160


@dataclass(slots=True)
class Timed:
    """A workload's model, loaded as a device does, and each turn's seconds for a query and a training step."""

    workload: Workload
    loader: ReleaseLoader
    loaded: LoadedRelease
    queries_s: list[float] = field(default_factory=list)
    steps_s: list[float] = field(default_factory=list)

    @staticmethod
    def of(name: str) -> "Timed":
        """Make the device model and load a release of it."""
        workload, key = prepared_workload(name, seed=1, data=None, devices=10), Ed25519PrivateKey.generate()
        model = build_device_model(workload, b"model times", warm_start=True)
        maker = release_maker(WorkloadFacts.of(workload), model, PriceBook.load_default(), key)
        release = maker.make(model.head, version=0, temperature=1.0, parent=None)
        loader = ReleaseLoader(key.public_key())
        files = {release.manifest.files[name]: data for name, data in release.files.items()}
        return Timed(workload, loader, loader.load(release.manifest.to_bytes(), release.signature, files))

    def turn(self) -> None:
        """Each query alone, as a device answers them, and one training."""
        times = []
        for query in list(self.workload.test.queries)[:QUERIES]:
            started = time.thread_time()
            opinions(self.loaded, [query])
            times.append(time.thread_time() - started)
        self.queries_s.append(statistics.median(times))
        examples = self.workload.test.take((self.workload.test.labels != (self.workload.oos_index or -1)).nonzero()[0])
        manifest = self.loaded.release.manifest
        architecture, training = manifest.trained(), manifest.training
        embeddings = architecture.normalize(self.loaded.session.predict(list(examples.queries)[:EXAMPLES]).embedding)
        started = time.thread_time()
        update = train(
            architecture,
            self.loaded.release.weights(),
            embeddings,
            examples.labels[:EXAMPLES],
            training=training_from_mapping(training),
            seed=b"model times",
        )
        self.steps_s.append((time.thread_time() - started) / update.steps)


def main(names: list[str]) -> None:
    """Print a line a workload."""
    timed = {name: Timed.of(name) for name in names}
    for _ in range(TURNS):
        for one in timed.values():
            one.turn()
    for name, one in timed.items():
        query, step = (1e6 * min(seconds) for seconds in (one.queries_s, one.steps_s))
        print(f"{name} ({one.workload.features.kind}): a query {query:.0f} us, a training step {step:.0f} us")


if __name__ == "__main__":
    main(sys.argv[1:] or ["digits", "home", "clinc150"])
