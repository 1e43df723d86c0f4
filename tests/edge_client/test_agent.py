import numpy as np


def test_smoke(make_bench, make_release, certify, queries):
    bench = make_bench()
    release = make_release()
    bench.source.publish(release, certify(release))
    assert bench.agent.sync().changed
    answers = bench.agent.ask_many(list(queries))
    print(
        answers[:3],
        bench.store.counters(),
        bench.store.ledger.totals().to_rows(),
        len(bench.store.memory),
        len(bench.store.probes),
        bench.store.probes.pending_pairs(),
    )
    assert not bench.agent.sync().changed
