"""Without a network: local answers marked degraded, queued on request, bounded, and put to central once it is back."""

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from edge_client.daemon import Plugs
from edge_client.releases.manager import Latest, ReleasePieces
from fedge.costs import Kind


def closed_port(world):
    with world.central():
        pass


QUICKLY = ("central_timeout_s = 0.5",)


@pytest.fixture
def offline(make_world):
    """A world whose central is not up, with a port that it will be up on."""
    world = make_world()
    closed_port(world)
    return world


def test_what_would_have_gone_to_central_is_answered_here_and_marked(offline):
    with offline.agent(offline.home(threshold=None, settings=QUICKLY)) as api:
        answer = api.ask("turn off the lights")
        assert answer["answered_by"] == "device" and answer["reason"] == "offline" and answer["degraded"]
        assert answer["answer"].startswith("label-")
        assert "queued" not in answer
        status, health, _ = api.call("GET", "/health")
        assert status == 200 and health["ready"] and "central" in health["missing"]


def test_a_confident_answer_is_not_degraded_by_being_offline(offline):
    with offline.agent(offline.home(settings=QUICKLY)) as api:
        answer = api.ask("turn off the lights")
        assert (answer["reason"], answer["degraded"]) == ("confident", False)


def test_a_queued_query_gets_centrals_answer_once_it_is_up(offline, wait_for):
    with offline.agent(offline.home(threshold=None, settings=QUICKLY)) as api:
        status, queued, _ = api.call("POST", "/v1/ask", {"query": "what is this", "queue": True})
        assert status == 202 and queued["queued"] and queued["degraded"]
        plain = api.ask("and what is that")
        number = queued["id"]
        waiting = api.call("GET", f"/v1/answers/{number}")[1]
        assert (waiting["state"], waiting["answered_by"]) == ("queued", "device")
        with offline.central():
            wait_for(lambda: api.call("GET", f"/v1/answers/{number}")[1]["state"] == "answered", "the queued answer")
            done = api.call("GET", f"/v1/answers/{number}")[1]
            assert (done["answer"], done["answered_by"]) == ("label-0", "central") and done["usd"] > 0
            wait_for(lambda: len(api.process.store.outbox) == 0, "the rest of the outbox")
            assert api.process.store.ledger.totals().quantity(Kind.ESCALATIONS) == 2
            assert {row.label for row in api.process.store.memory.all()} == {"label-0"}
            assert api.call("GET", f"/v1/answers/{plain['id']}")[1]["answered_by"] == "device"
            assert api.ask("and a new one")["answered_by"] == "central"


def test_it_reconnects_whenever_central_comes_back(make_world, wait_for):
    world = make_world()
    with world.central():
        home = world.home(threshold=None, settings=QUICKLY)
    with world.agent(home) as api:
        for turn in range(2):
            with world.central():
                wait_for(lambda: api.ask("are you there")["answered_by"] == "central", f"central, turn {turn}")
            wait_for(lambda: api.ask("are you gone")["reason"] == "offline", f"its absence, turn {turn}")


def test_a_batch_may_be_queued(offline):
    with offline.agent(offline.home(threshold=None, settings=QUICKLY)) as api:
        _, batch, _ = api.call("POST", "/v1/ask/batch", {"queries": ["one", "two", "one"], "queue": True})
        assert [answer["queued"] for answer in batch["answers"]] == [True] * 3
        assert len(api.process.store.outbox) == 2 and len(api.process.store.waiting) == 3


def test_a_full_queue_says_so_and_others_make_room_for_what_was_promised(offline):
    home = offline.home(threshold=None, settings=(*QUICKLY,))
    text = home.settings_file.read_text() + "[queue]\nmax_bytes = 100\n"
    home.settings_file.write_text(text)
    with offline.agent(home) as api:
        api.ask("a" * 60)
        assert len(api.process.store.outbox) == 1
        assert api.call("POST", "/v1/ask", {"query": "b" * 60, "queue": True})[0] == 202
        (kept,) = api.process.store.outbox.oldest(9)
        assert kept.query == "b" * 60
        status, answer, _ = api.call("POST", "/v1/ask", {"query": "c" * 60, "queue": True})
        assert status == 200 and not answer["queued"] and answer["degraded"]
        assert api.process.store.outbox.size_bytes == 61


def test_what_is_too_old_is_given_up_and_says_so(offline, wait_for):
    home = offline.home(threshold=None, settings=QUICKLY)
    home.settings_file.write_text(home.settings_file.read_text() + "[queue]\nmax_age_s = 0.5\n")
    with offline.agent(home) as api:
        number = api.ask("soon too old", queue=True)["id"]
        wait_for(lambda: api.call("GET", f"/v1/answers/{number}")[1]["state"] == "expired", "its end")
        assert len(api.process.store.outbox) == 0


class Published:
    """A source of releases in this process."""

    def __init__(self, fleet) -> None:
        self.fleet = fleet
        self.releases = {}
        self.desired = Latest(None, None)

    def publish(self, release) -> None:
        self.releases[release.release_id] = release
        document = self.fleet.certify_release(release, threshold=0.01, now=time.time(), number=release.manifest.version)
        self.desired = Latest(release.release_id, document)

    def latest(self):
        return self.desired

    def fetch(self, release_id, have):
        release = self.releases[release_id]
        files = {release.manifest.files[name]: data for name, data in release.files.items()}
        return ReleasePieces(release.manifest.to_bytes(), release.signature, files)


def test_swapping_releases_under_load_drops_no_query(make_world):
    world = make_world()
    closed_port(world)
    source = Published(world.fleet)
    home = world.home(settings=QUICKLY)
    releases = [world.fleet.make_release(version=version, buckets=64, seed=version) for version in range(2, 22)]
    with world.agent(home, Plugs(source=lambda home, settings: source)) as api:
        done = Event()

        def load(caller: int) -> list[dict]:
            answers = []
            while not done.is_set():
                answers.append(api.ask(f"query {len(answers)} of caller {caller}"))
            return answers

        with ThreadPoolExecutor(4) as pool:
            callers = [pool.submit(load, caller) for caller in range(4)]
            for release in releases:
                source.publish(release)
                assert (
                    api.process.agent.sync().changed or api.process.releases.active.loaded.release_id == release.release_id
                )
                assert api.ask("after the swap")["release"] == release.release_id
            done.set()
            answers = [answer for caller in callers for answer in caller.result()]
        assert all(answer["answered_by"] == "device" and not answer["degraded"] for answer in answers)
        assert len({answer["release"] for answer in answers}) > 2
        assert len(answers) + len(releases) == sum(
            value for name, value in api.process.store.counters().items() if name.startswith("answered.")
        )
