"""Everything that runs on the server. Only `workbench` imports torch.

Read in this order:

- `processes`: what `fedge server run` starts; `settings` says what can be set, `bootstrap` makes a new server's home.
- `rounds`: one round from client selection to the signed release. Begin at `rounds.round`, then `rounds.secagg_session`
  (one secure sum), `rounds.aggregation` (what the sum does to the model) and `rounds.certification` (the certificate).
- `central`: the fallback service that answers what devices escalate; `central.upstream` asks a language model.
- `releases`: the release registry and TUF publication; `fleet`: gateway, enrollment, revocation, keys.
- `signing`: enrollment and release keys on another machine.
- `store`: the database; `console`: the operators' pages and API, one module for each page; `admin`: what operators can do.
- `workbench`: workloads, strong models, and device models made with torch and exported to ONNX.
"""

from fedge.tls13 import require_tls13

require_tls13()  # before any module here imports gRPC
