"""The rounds process forgets by the settings, in a server's own database."""

import threading
import time

from aggregator.processes import _forget
from aggregator.settings import ServerHome
from aggregator.store import Database
from aggregator.store.retention import DAY_S


def test_a_server_forgets_what_its_settings_no_longer_keep(tmp_path):
    home = ServerHome(tmp_path)
    home.settings_file.write_text("[retention]\nevents_days = 2\n")
    now = time.time()
    with Database.open(home.database_url) as database:
        database.happenings.add_event("old", "three days ago", at=now - 3 * DAY_S)
        database.happenings.add_event("new", "yesterday", at=now - DAY_S)
        stop = threading.Event()
        thread = threading.Thread(target=_forget, args=(home, home.settings(), stop))
        thread.start()
        until = time.monotonic() + 60
        while len(database.happenings.events()) == 2 and time.monotonic() < until:
            time.sleep(0.01)
        stop.set()
        thread.join()
        assert [event.kind for event in database.happenings.events()] == ["new"]
