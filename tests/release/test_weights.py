import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fedge.errors import InputError, VerificationError
from fedge.release import (
    flatten,
    read_safetensors,
    structure_sha256,
    unflatten,
    weights_sha256,
    write_safetensors,
)

arrays = npst.arrays(
    np.float32,
    npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    elements=st.floats(-1e6, 1e6, width=32),
)
some_weights = st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_./]{0,9}", fullmatch=True), arrays, max_size=5)


def same(left, right):
    return left.keys() == right.keys() and all(
        left[name].shape == right[name].shape and left[name].tobytes() == right[name].tobytes() for name in left
    )


@given(some_weights)
def test_weights_come_back_from_bytes_and_from_a_vector(weights):
    assert same(read_safetensors(write_safetensors(weights)), weights)
    assert same(unflatten(flatten(weights), weights), weights)


@given(some_weights)
def test_hashes_do_not_depend_on_the_order_of_names(weights):
    backwards = dict(reversed(weights.items()))
    assert weights_sha256(backwards) == weights_sha256(weights)
    assert structure_sha256(backwards) == structure_sha256(weights)
    assert write_safetensors(backwards) == write_safetensors(weights)


@given(some_weights)
def test_the_bytes_are_those_of_the_safetensors_package(weights):
    numpy_format = pytest.importorskip("safetensors.numpy")
    if 0 not in [array.size for array in weights.values()] and weights:
        assert write_safetensors(weights) == numpy_format.save(weights)
    assert same(numpy_format.load(write_safetensors(weights)), weights)
    assert same(read_safetensors(numpy_format.save(weights)), weights)


def test_flatten_follows_the_sorted_names():
    weights = {"b": np.float32([[3, 4]]), "a": np.float32([1, 2]), "c": np.float32(5)}
    assert flatten(weights).tolist() == [1, 2, 3, 4, 5]
    assert flatten({}).shape == (0,)


def test_unflatten_copies_and_refuses_another_length():
    like = {"a": np.zeros((2, 2), np.float32)}
    vector = np.arange(4, dtype=np.float32)
    weights = unflatten(vector, like)
    vector[0] = 9
    assert weights["a"].tolist() == [[0, 1], [2, 3]]
    with pytest.raises(InputError, match="4 values"):
        unflatten(np.zeros(5, np.float32), like)


def test_hashes_have_their_documented_form():
    structure = b'[["a",[2]]]'
    weights = {"a": np.float32([1, 2])}
    assert structure_sha256(weights) == hashlib.sha256(structure).hexdigest()
    content = len(structure).to_bytes(8, "little") + structure + np.array([1, 2], "<f4").tobytes()
    assert weights_sha256(weights) == hashlib.sha256(content).hexdigest()


def test_one_changed_bit_or_shape_changes_the_hash():
    weights = {"a": np.zeros((2, 3), np.float32)}
    assert weights_sha256(weights) != weights_sha256({"a": np.zeros((3, 2), np.float32)})
    assert weights_sha256(weights) != weights_sha256({"a": -np.zeros((2, 3), np.float32)})
    assert structure_sha256(weights) == structure_sha256({"a": np.ones((2, 3), np.float32)})


@pytest.mark.parametrize(
    "weights",
    [{"a": np.zeros(2)}, {"a": np.float32([np.nan])}, {"a": np.float32([np.inf])}, {"a b": np.float32([1])}],
    ids=["float64", "nan", "infinity", "name"],
)
def test_unusable_weights_are_not_written(weights):
    with pytest.raises(InputError):
        write_safetensors(weights)


def crafted(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def tensor(shape, start, stop, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 8,
        b"\xff" * 8,
        b"\xff" * 7 + b"\x7f",
        crafted(b"{"),
        crafted(b"[]"),
        crafted(b"[" * 100_000),
        crafted(b"\xff\xfe"),
        crafted({"a": tensor([1], 0, 4)}),
        crafted({"a": tensor([1], 0, 4)}, b"\0" * 5),
        crafted({"a": tensor([1], 4, 8)}, b"\0" * 8),
        crafted({"a": tensor([1], 0, 4), "b": tensor([1], 0, 4)}, b"\0" * 4),
        crafted({"a": tensor([2], 0, 8), "b": tensor([1], 4, 8)}, b"\0" * 8),
        crafted({"a": tensor([1], -4, 0)}, b"\0" * 4),
        crafted({"a": tensor([-1, -1], 0, 4)}, b"\0" * 4),
        crafted({"a": tensor([2**62, 2**62], 0, 4)}, b"\0" * 4),
        crafted({"a": tensor([True], 0, 4)}, b"\0" * 4),
        crafted({"a": tensor([1.0], 0, 4)}, b"\0" * 4),
        crafted({"a": tensor([1] * 9, 0, 4)}, b"\0" * 4),
        crafted({"a": tensor([1], 0, 2, "F16")}, b"\0" * 2),
        crafted({"a": tensor([1], 0, 4) | {"more": 1}}, b"\0" * 4),
        crafted({"a": [1]}, b"\0" * 4),
        crafted({"__metadata__": {"a": "b"}}),
        crafted({"../../x y": tensor([1], 0, 4)}, b"\0" * 4),
        crafted(
            b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
        ),
        crafted({"a": tensor([1], 0, 4)}, np.float32([np.nan]).tobytes()),
        crafted({f"t{i}": tensor([0], 0, 0) for i in range(4097)}),
    ],
)
def test_malformed_files_are_refused(data):
    with pytest.raises(VerificationError):
        read_safetensors(data)


@given(st.binary(max_size=200) | st.binary(max_size=100).map(crafted))
def test_arbitrary_bytes_give_weights_or_a_verification_error(data):
    try:
        weights = read_safetensors(data)
    except VerificationError:
        return
    assert same(read_safetensors(write_safetensors(weights)), weights)
