"""What the csv workload promises: three parts that share no text, users kept together, and one clear line for a bad file."""

import csv
import gzip
import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.workbench.workloads import load_workload, partition
from aggregator.workbench.workloads.csv_file import read_rows
from fedge.errors import InputError
from fedge.features import normalized_text
from fedge.randomness import root_seed

SEED = root_seed(1)


def write(folder, lines, *, name="data.csv"):
    path = folder / name
    path.write_bytes(lines if isinstance(lines, bytes) else "\n".join(lines).encode())
    return path


def rows(count=30, labels=("on", "off", "up")):
    return [f"request number {number},{labels[number % len(labels)]}" for number in range(count)]


def load(path, **options):
    return load_workload("csv", seed=SEED, data_file=path, **options)


def test_thirds_hold_every_label_and_every_row_once(tmp_path):
    workload = load(write(tmp_path, ["text,label", *rows(60)]))
    assert workload.labels == ("off", "on", "up") and workload.oos_label is None and not workload.has_users
    parts = (workload.server, workload.devices, workload.test)
    assert [len(part) for part in parts] == [20, 20, 20]
    assert all(set(part.labels.tolist()) == {0, 1, 2} for part in parts)
    texts = [text for part in parts for text in part.queries]
    assert sorted(texts) == sorted(f"request number {number}" for number in range(60))


def test_equal_texts_stay_in_one_part(tmp_path):
    lines = [f"request {number % 20},{'ab'[number % 2]}" for number in range(100)]
    lines += [f"REQUEST   {number % 20},{'ab'[number % 2]}" for number in range(20)]
    workload = load(write(tmp_path, ["text,label", *lines]))
    parts = [{normalized_text(text) for text in part.queries} for part in (workload.server, workload.devices, workload.test)]
    assert sum(len(part) for part in parts) == len(set.union(*parts)) == 20
    assert len(workload.server) + len(workload.devices) + len(workload.test) == 120


def test_the_hash_is_that_of_the_decompressed_file(tmp_path):
    content = "\n".join(["text,label", *rows()]).encode()
    plain = load(write(tmp_path, content))
    packed = load(write(tmp_path, gzip.compress(content), name="data.csv.gz"))
    assert plain.data_sha256 == packed.data_sha256 == hashlib.sha256(content).hexdigest()
    assert plain.test.queries == packed.test.queries


def test_a_byte_order_mark_quotes_windows_ends_and_any_column_order_are_read(tmp_path):
    lines = ["\ufefflabel, Text", *(f'{"ab"[number % 2]},"say ""{number}"", please"' for number in range(12)), "", ""]
    workload = load(write(tmp_path, "\r\n".join(lines).encode()))
    assert 'say "3", please' in {*workload.server.queries, *workload.devices.queries, *workload.test.queries}


def test_a_label_named_oos_is_out_of_scope_and_dealt_to_nobody(tmp_path):
    workload = load(write(tmp_path, ["text,label", *rows(60, ("on", "off", "oos", "up"))]))
    assert workload.labels == ("off", "on", "up", "oos") and workload.oos_label == "oos"
    assert workload.oos_share == pytest.approx(0.25)
    assert "oos" not in workload.topics
    dealt = np.concatenate(partition(workload, 5, alpha=0.3, seed=SEED))
    assert workload.in_scope(workload.devices)[dealt].all()


def test_users_become_devices(tmp_path):
    lines = [f"request number {number},{'ab'[number % 2]},user{number // 12}" for number in range(120)]
    workload = load(write(tmp_path, ["text,label,user", *lines]))
    assert workload.has_users
    shares = partition(workload, 10, alpha=0.3, seed=SEED)
    owners = [set(workload.devices.groups[share].tolist()) for share in shares]
    assert all(len(owner) == 1 for owner in owners) and len(set.union(*owners)) == 10


BAD_FILES = {
    "no_label_column": (["text,intent", "a,b"], r"has no column 'label' \(found 'text', 'intent'\)"),
    "no_header": (["turn on,light", "turn off,light"], "has no column 'text'"),
    "unknown_column": (["text,label,id", "a,b,1"], "column 'id' that fedge does not know"),
    "column_twice": (["text,label,text", "a,b,c"], "'text' twice"),
    "nothing": ([""], "is empty"),
    "no_rows": (["text,label"], "no rows"),
    "one_class": (["text,label", *rows(9, ("on",))], r"one label only \('on'\)"),
    "one_class_and_oos": (["text,label", *rows(12, ("on", "oos"))], "one label only"),
    "empty_text": (["text,label", "a,b", "  ,b"], "line 3: the text is empty"),
    "empty_label": (["text,label", "a,b", "c,"], "line 3: the label is empty"),
    "empty_user": (["text,label,user", "a,b,"], "line 2: the user is empty"),
    "latin_1": ("text,label\na,b\ncaf\xe9,b\n".encode("latin-1"), r"line 3: not UTF-8 \(byte 0xe9\)"),
    "utf_16": ("text,label\na,b\n".encode("utf-16"), "line 1: not UTF-8"),
    "ragged": (["text,label", "a,b", "turn on, please,b"], "line 3: 3 fields instead of 2"),
    "too_few_fields": (["text,label", "a"], "line 2: 1 fields instead of 2"),
    "nul_byte": (b"text,label\na,b\nc\0d,b\n", "line 3: a NUL byte"),
    "open_quote": (["text,label", '"a,b', "c,d"], "check the quotes"),
    "stray_quote": (["text,label", '"a"b,c'], "line 2: .*check the quotes"),
    "rare_label": (["text,label", *rows(30), "x,rare", "y,rare"], "label 'rare' has 2 different texts"),
    "rare_text": (["text,label", *rows(30), "x,rare", "X,rare", " x,rare"], "label 'rare' has 1 different text,"),
    "endless_field": (["text,label", "x" * 200_000 + ",b"], "field larger than field limit"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_ends_in_one_line_that_names_place_and_remedy(tmp_path, name):
    lines, message = BAD_FILES[name]
    with pytest.raises(InputError, match=message) as caught:
        load(write(tmp_path, lines))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "data.csv"))


def test_more_devices_than_queries_in_scope_are_refused_with_both_numbers(tmp_path):
    path = write(tmp_path, ["text,label", *rows(30)])
    assert len(load(path, devices=10).devices) == 10
    with pytest.raises(InputError, match=r"leaves 10 queries in scope for 11 devices .*use at most 10 devices"):
        load(path, devices=11)


def test_an_absent_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load(tmp_path / "absent.csv")


@given(
    st.binary(max_size=200)
    | st.text(st.sampled_from('a,"\n\r\0 é'), max_size=60).map(lambda t: b"text,label\n" + t.encode())
)
@settings(max_examples=300)
def test_no_content_ends_in_another_error(content):
    try:
        read = read_rows(content, name="data.csv")
    except InputError as error:
        assert str(error).startswith("data.csv")
    else:
        assert all(row.text and row.label for row in read)


def test_snips_loads_as_a_csv_file(public_data, tmp_path):
    raw = json.loads(gzip.decompress((public_data / "snips" / "snips.json.gz").read_bytes()))
    path = tmp_path / "snips.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(row for part in ("train", "valid", "test") for row in raw[part])
    workload = load(path, devices=30)
    assert len(workload.labels) == 7
    assert len(workload.server) + len(workload.devices) + len(workload.test) == 14_484
    assert "PlayMusic" in workload.topics
    assert min(len(share) for share in partition(workload, 30, alpha=0.3, seed=SEED)) > 150
