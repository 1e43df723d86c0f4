"""One of several processes that use the same token at once: race.py AUTHORITY TOKEN_HEX FIRST COUNT, then a line to start.

Prints how many attempts gave certificates.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aggregator.fleet.authority import Authority
from fedge.errors import VerificationError
from fedge.identity.wish import make_wish

folder, token, first, count = Path(sys.argv[1]), bytes.fromhex(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
authority = Authority(folder)
name = authority.trust().ca_name
node_key = ec.generate_private_key(ec.SECP384R1())
wishes = [
    make_wish(
        name,
        f"device-{number}",
        identity_key=Ed25519PrivateKey.generate(),
        tls_key=ec.generate_private_key(ec.SECP256R1()),
        node_key=node_key,
    )
    for number in range(first, first + count)
]
print("ready", flush=True)
sys.stdin.readline()


def attempt(wish):
    try:
        return authority.join(token, wish, now=time.time()).tls.decode()
    except VerificationError as error:
        assert "used by another device" in str(error), error
        return None


with ThreadPoolExecutor(8) as pool:
    won = [certificate for certificate in pool.map(attempt, wishes) if certificate]
print(len(won), flush=True)
