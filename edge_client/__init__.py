"""Everything that runs on a device. It never imports torch.

Read in this order:

- `daemon`: one agent process, put together from a device's home; `settings` says what can be set.
- `service`: the local HTTP API, then `inference`: how one query is answered here or escalated to central, and recorded.
- `store`: what the device remembers, in one SQLite database; `power`: what its answers cost in energy.
- `rounds`: training, counts and the device's steps of secure aggregation; `flower` carries their messages.
- `releases`: download, verification, trial and rollback of models.
- `membership`: enrollment, certificates, heartbeat; `fleet_plugins` adds it to the agent of a live fleet.
- `doctor`: what keeps this machine from working.
"""

from fedge.tls13 import require_tls13

require_tls13()  # before any module here imports gRPC
