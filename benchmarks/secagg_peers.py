"""What other ways to sum updates cost on the same job: flwr's SecAgg+ primitives, CKKS, plain addition, the bare key stream.

flwr's protocol runs only in its legacy workflow, so its cost is put together from its own functions: the time of one call
times the number of calls that its client mod and its workflow make on the complete graph (`secaggplus_mod._share_keys`,
`_collect_masked_vectors`; `secaggplus_workflow.unmask_stage`). CKKS (TenSEAL, where it is installed) has one secret key for
all clients and no dropouts; it is measured on one ciphertext times the number of ciphertexts.
"""

import importlib.util
import os
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from benchmarks.results import cpu_median
from fedge.secagg.config import threshold
from fedge.secagg.masks import CHUNK_BYTES

MODULUS = 1 << 32
CKKS_SLOTS = 4096


@dataclass(frozen=True, slots=True)
class FlowerCosts:
    """CPU seconds of one call of each of flwr's functions, for cohorts of n and vectors of m values."""

    n: int
    key_pair: float
    split_seed: float
    split_key: float
    agree: float
    encrypt: float
    decrypt: float
    combine_seed: float
    combine_key: float
    quantize: float
    stream: float
    add: float
    modulo: float

    def client(self) -> float:
        """One device, every other one its neighbour: setup, share keys, masked vector."""
        k = self.n - 1
        share_keys = 2 * self.key_pair + self.split_seed + self.split_key + k * (self.agree + self.encrypt)
        masks = k * (self.decrypt + self.agree) + (k + 1) * (self.stream + self.add)
        return share_keys + self.quantize + masks + self.modulo

    def server(self, dropped: int) -> float:
        """Recovery: a stream for each survivor, and for each dropped device one for every neighbour."""
        alive = self.n - dropped
        streams = alive + dropped * (self.n - 1)
        secrets = alive * self.combine_seed + dropped * self.combine_key
        return secrets + dropped * (self.n - 1) * self.agree + streams * (self.stream + self.add) + self.modulo


def flower_costs(n: int, m: int, repetitions: int) -> FlowerCosts:
    """Times flwr's own functions. Secrets are combined from t shares, though its workflow takes all that came."""
    from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
    from flwr.common.secure_aggregation.crypto.symmetric_encryption import decrypt, encrypt, generate_shared_key
    from flwr.common.secure_aggregation.ndarrays_arithmetic import parameters_addition, parameters_mod
    from flwr.common.secure_aggregation.quantization import quantize
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen, share_keys_plaintext_concat
    from flwr.supercore.primitives.asymmetric import (
        bytes_to_private_key,
        bytes_to_public_key,
        generate_key_pairs,
        private_key_to_bytes,
        public_key_to_bytes,
    )

    private, public = generate_key_pairs()
    secret, peer = private_key_to_bytes(private), public_key_to_bytes(public)

    def agree() -> bytes:
        return generate_shared_key(bytes_to_private_key(secret), bytes_to_public_key(peer))

    shared = agree()
    t = threshold(n)
    key_shares, seed_shares = create_shares(secret, t, n), create_shares(shared[:32], t, n)
    plaintext = share_keys_plaintext_concat(1, 2, seed_shares[0], key_shares[0])
    ciphertext = encrypt(shared, plaintext)
    update = [np.random.default_rng(1).normal(size=m)]
    vector = pseudo_rand_gen(shared, MODULUS, [(m,)])
    many = 5 * repetitions
    return FlowerCosts(
        n=n,
        key_pair=cpu_median(generate_key_pairs, many),
        split_seed=cpu_median(lambda: create_shares(shared[:32], t, n), repetitions),
        split_key=cpu_median(lambda: create_shares(secret, t, n), repetitions),
        agree=cpu_median(agree, many),
        encrypt=cpu_median(lambda: encrypt(shared, plaintext), many),
        decrypt=cpu_median(lambda: decrypt(shared, ciphertext), many),
        combine_seed=cpu_median(lambda: combine_shares(seed_shares[:t]), repetitions),
        combine_key=cpu_median(lambda: combine_shares(key_shares[:t]), repetitions),
        quantize=cpu_median(lambda: quantize(update, 3.0, 1 << 22), repetitions),
        stream=cpu_median(lambda: pseudo_rand_gen(shared, MODULUS, [(m,)]), repetitions),
        add=cpu_median(lambda: parameters_addition(vector, vector), repetitions),
        modulo=cpu_median(lambda: parameters_mod(vector, MODULUS), repetitions),
    )


def key_stream_seconds(streams: int, size: int, repetitions: int) -> float:
    """CPU seconds for the bare ChaCha20 output of ``streams`` keys, ``size`` bytes each, into one buffer."""
    chunk = min(CHUNK_BYTES, size)
    zeros, buffer = memoryview(bytes(chunk)), memoryview(bytearray(chunk))

    def run() -> None:
        ciphers = [Cipher(ChaCha20(os.urandom(32), bytes(16)), mode=None).encryptor() for _ in range(streams)]
        for start in range(0, size, chunk):
            part = min(chunk, size - start)
            for cipher in ciphers:
                cipher.update_into(zeros[:part], buffer[:part])

    return cpu_median(run, repetitions)


def plain_seconds(n: int, m: int, repetitions: int) -> float:
    """CPU seconds to add n float32 updates of m values, one after another: plain federated averaging."""
    total, update = np.zeros(m, dtype=np.float32), np.ones(m, dtype=np.float32)

    def run() -> None:
        for _ in range(n):
            np.add(total, update, out=total)

    return cpu_median(run, repetitions)


def ckks_costs(n: int, m: int, repetitions: int) -> dict[str, float] | None:
    """CKKS by TenSEAL: seconds of a client, seconds of the server and bytes up; None where it is not installed."""
    if importlib.util.find_spec("tenseal") is None:
        return None
    import tenseal

    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 2 * CKKS_SLOTS, coeff_mod_bit_sizes=[60, 40, 40, 60])
    context.global_scale = 2**40
    values = np.random.default_rng(1).normal(size=CKKS_SLOTS)
    one = tenseal.ckks_vector(context, values)
    ciphertexts = -(-m // CKKS_SLOTS)
    encrypt = cpu_median(lambda: tenseal.ckks_vector(context, values), repetitions)
    add = cpu_median(lambda: one + one, repetitions)
    decrypt = cpu_median(one.decrypt, repetitions)
    return {
        "client": ciphertexts * encrypt,
        "server": ciphertexts * ((n - 1) * add + decrypt),
        "upload": float(ciphertexts * len(one.serialize())),
    }
