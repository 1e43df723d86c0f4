"""A small house of sentences: four labels, out-of-scope ones, and who may or may not use MiniLM."""

from types import SimpleNamespace

import numpy as np
import pytest

from aggregator.workbench.strong import minilm, train_strong_model
from aggregator.workbench.workloads import Split, Workload
from fedge.features import TextFeatures

VERBS = {
    "alarm": ("set an alarm for", "wake me up at", "remind me to get up at", "start the alarm clock for"),
    "light": ("turn on the light in", "make it brighter in", "switch the lamp on in", "lights on please in"),
    "music": ("play some songs by", "put on the record of", "i want to hear music by", "start the playlist of"),
    "weather": ("will it rain in", "what is the weather like in", "is it going to snow in", "give me the forecast for"),
}
PLACES = {
    "alarm": ("seven", "half past six", "noon", "eight thirty", "dawn"),
    "light": ("the kitchen", "my bedroom", "the hall", "the bathroom", "the garage"),
    "music": ("mozart", "the beatles", "nina simone", "miles davis", "abba"),
    "weather": ("paris", "new york", "the mountains", "berlin", "my town"),
}
STRANGE = (
    "how many moons does jupiter have",
    "who was the first king of norway",
    "translate goodbye into latin",
    "why do cats purr at strangers",
    "book a table for two at the harbour",
    "what is the square root of nine",
    "write a poem about a lost glove",
    "how tall is a fully grown giraffe",
)
LABELS = ("alarm", "light", "music", "weather", "oos")


def make_split(*, places, strange, extra=()):
    rows = [(f"{verb} {PLACES[label][place]}", label) for label in VERBS for verb in VERBS[label] for place in places]
    rows += [(text, "oos") for text in strange] + list(extra)
    labels = np.array([LABELS.index(label) for _, label in rows], dtype=np.int64)
    return Split([text for text, _ in rows], labels, np.full(len(rows), -1, dtype=np.int64))


def make_workload(*, server=None, test=None, oos_label="oos", oos_share=0.2, labels=LABELS):
    """The first three places are the server's, the fourth the devices', the fifth measures."""
    server = make_split(places=(0, 1, 2), strange=STRANGE[:4]) if server is None else server
    test = make_split(places=(4,), strange=STRANGE[6:]) if test is None else test
    return Workload(
        name="toy",
        labels=labels,
        oos_label=oos_label,
        features=TextFeatures(),
        topics={label: "home" for label in labels if label != oos_label},
        server=server,
        devices=make_split(places=(3,), strange=STRANGE[4:6]),
        test=test,
        test_device=np.full(len(test), -1, dtype=np.int64),
        data_sha256="",
        note="",
        oos_share=oos_share,
    )


@pytest.fixture
def no_minilm(monkeypatch):
    """As on a machine without the extra."""
    monkeypatch.setattr(minilm, "is_installed", lambda: False)


@pytest.fixture
def with_minilm():
    if not minilm.is_installed():
        pytest.skip("the extra 'minilm' is not installed")


@pytest.fixture(params=["with MiniLM", "without MiniLM"])
def either(request):
    """Runs a test with and without the extra."""
    request.getfixturevalue("with_minilm" if request.param == "with MiniLM" else "no_minilm")


@pytest.fixture
def house():
    """How to make the workload and its parts."""
    return SimpleNamespace(workload=make_workload, split=make_split, strange=STRANGE, labels=LABELS)


@pytest.fixture
def train():
    """Trains without showing progress."""
    return lambda workload, seed=bytes(32): train_strong_model(workload, seed, progress=lambda _text: None)
