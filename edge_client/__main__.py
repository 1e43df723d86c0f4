"""`python -m edge_client HOME`: the agent without the command line around it, which takes 7 MB that no agent needs.

`fedge device run` becomes this process. Arguments: the device's folder, and a policy in place of the one in its settings.
"""

import sys
from pathlib import Path

from edge_client.daemon import AgentProcess
from edge_client.fleet_plugins import fleet_plugs
from edge_client.settings import DeviceHome
from fedge import logs
from fedge.errors import FedgeError


def main() -> None:
    """Serve until a signal ends it; errors raised on purpose become one line and exit code 1."""
    try:
        home = DeviceHome(Path(sys.argv[1]))
        settings = home.settings()
        logs.configure(settings.log_format, part="device")
        policy = Path(sys.argv[2]) if len(sys.argv) > 2 else None
        process = AgentProcess(home, plugs=fleet_plugs(home, settings), policy=policy)
        name = process.settings.device_id
        process.run(ready=lambda url: print(f"Device {name} answers at {url} (Ctrl-C ends it)", flush=True))
    except FedgeError as error:
        print(f"fedge: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
