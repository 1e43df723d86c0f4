"""What the generated workload promises: three parts that share no text, requests neither trivial nor hopeless."""

import re

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from aggregator.workbench.workloads import load_workload, partition
from aggregator.workbench.workloads.home import PERSONAS, expand
from aggregator.workbench.workloads.home_grammar import OUT_OF_SCOPE, SLOTS, TOPICS
from aggregator.workbench.workloads.sampling import Dice
from fedge.features import normalized_text
from fedge.randomness import generator, root_seed

SEED = root_seed(1)


@pytest.fixture(scope="module")
def home():
    return load_workload("home", seed=SEED)


def test_sizes_labels_and_the_share_out_of_scope(home):
    assert (len(home.server), len(home.devices), len(home.test)) == (3000, 9000, 3000)
    assert len(home.labels) == 34 and home.labels[-1] == home.oos_label == "oos"
    assert home.labels[:-1] == tuple(sorted(home.topics))
    for split in (home.server, home.devices, home.test):
        assert (~home.in_scope(split)).mean() == pytest.approx(home.oos_share)
        assert len(np.unique(split.labels)) == 34


def test_no_text_is_in_two_parts_nor_twice_in_one(home):
    texts = [normalized_text(text) for split in (home.server, home.devices, home.test) for text in split.queries]
    assert len(set(texts)) == len(texts) == 15_000
    assert min(len(text) for text in texts) > 2


def test_what_is_out_of_scope_comes_from_other_families_in_each_part(home):
    # Words that only one family's templates have tell the families of a part.
    marks = {
        "jokes": re.compile(r"\b(joke|riddle|laugh)\b"),
        "translation": re.compile(r"\btranslate\b"),
        "films": re.compile(r"\bfilms?\b"),
        "health": re.compile(r"\b(calories|headache|healthy)\b"),
        "sports": re.compile(r"\bscored\b"),
        "pets": re.compile(r"\brabbits\b"),
    }
    for mark in marks.values():
        parts = [
            any(mark.search(text) for text, known in zip(split.queries, home.in_scope(split), strict=True) if not known)
            for split in (home.server, home.devices, home.test)
        ]
        assert sum(parts) == 1


def test_one_seed_gives_one_set_and_another_seed_another(home):
    again, other = load_workload("home", seed=SEED), load_workload("home", seed=root_seed(2))
    assert again.test.queries == home.test.queries
    assert again.data_sha256 == home.data_sha256 != other.data_sha256


def test_the_servers_own_model_gets_most_but_not_all(home):
    # Measured over two seeds: 0.920 and 0.923 (in scope, both parts with their tenth out of scope).
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=20.0, max_iter=60, tol=1e-3)
    ).fit(home.server.queries, home.server.labels)
    known = home.in_scope(home.test)
    right = model.predict(home.test.queries) == home.test.labels
    assert 0.88 < right[known].mean() < 0.96


def test_devices_belong_to_users_and_the_servers_people_are_others(home):
    assert home.has_users
    users = set(home.devices.groups.tolist())
    assert users == set(home.test.groups.tolist()) == set(range(40))
    assert not users & set(home.server.groups.tolist())
    for devices in (10, 40, 60):
        shares = partition(home, devices, alpha=0.3, seed=SEED)
        assert sum(len(share) for share in shares) == 8100
        assert min(len(share) for share in shares) > 50


def test_every_slot_and_every_choice_of_the_grammar_can_be_filled():
    templates = [t for intents in TOPICS.values() for group in intents.values() for t in group]
    templates += [t for group in OUT_OF_SCOPE.values() for t in group]
    used = {slot for template in templates for slot in re.findall(r"\{(\w+)\}", template)}
    assert used == set(SLOTS)
    dice = Dice(generator(SEED, "grammar"))
    for template in templates:
        said = expand(template, dice)
        assert said and not set(said) & set("(){}|")


def test_intents_have_no_template_in_common():
    templates = [t for intents in TOPICS.values() for group in intents.values() for t in group]
    assert len(templates) == len(set(templates))
    assert min(len(group) for intents in TOPICS.values() for group in intents.values()) >= 5


def test_personas_speak_differently_and_never_fall_silent():
    dice = Dice(generator(SEED, "personas"))
    said = {persona.name: {persona.speak("turn on the light", dice) for _ in range(50)} for persona in PERSONAS}
    assert len(said) == len(PERSONAS) == 8
    assert all(all(text.strip() for text in texts) for texts in said.values())
    assert any("light" in text and "the" not in text for text in said["terse"])
    assert any(text.startswith("could you please") for text in said["polite"])
