"""What dealing out promises: nothing lost, nobody empty-handed, as uneven as asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.workbench.workloads import partition
from aggregator.workbench.workloads.partition import stratified_parts
from fedge.errors import InputError
from fedge.randomness import generator, root_seed

SEED = root_seed(7)
group_lists = st.lists(st.integers(0, 9), min_size=1, max_size=120)


@given(group_lists, st.integers(1, 40), st.sampled_from([1e-3, 0.3, 100.0]), st.booleans(), st.integers(0, 5))
def test_every_query_in_scope_is_dealt_once_and_every_device_gets_one(text_workload, groups, devices, alpha, users, oos):
    workload = text_workload(groups, has_users=users, oos=oos)
    if devices > len(groups):
        with pytest.raises(InputError, match="use at most"):
            partition(workload, devices, alpha=alpha, seed=SEED)
        return
    shares = partition(workload, devices, alpha=alpha, seed=SEED)
    assert len(shares) == devices
    assert min(len(share) for share in shares) >= 1
    assert sorted(np.concatenate(shares).tolist()) == list(range(len(groups))), "out-of-scope queries are dealt to nobody"


@given(st.integers(0, 2**32), st.integers(2, 20))
def test_shares_without_users_are_equal_within_one_query(text_workload, seed, devices):
    workload = text_workload(np.arange(101) % 10)
    sizes = {len(share) for share in partition(workload, devices, alpha=0.1, seed=root_seed(seed))}
    assert max(sizes) - min(sizes) <= 1


def groups_seen(workload, alpha):
    """How many different groups a device sees, on average."""
    shares = partition(workload, 20, alpha=alpha, seed=SEED)
    return np.mean([len(set(workload.devices.groups[share].tolist())) for share in shares])


def test_a_smaller_alpha_leaves_a_device_fewer_groups(text_workload):
    workload = text_workload(np.arange(2000) % 10)
    assert groups_seen(workload, 0.01) < 4
    assert groups_seen(workload, 0.01) < groups_seen(workload, 0.3) < groups_seen(workload, 100.0)
    assert groups_seen(workload, 100.0) > 9.9


def test_one_seed_gives_one_partition_and_another_seed_another(text_workload):
    workload = text_workload(np.arange(200) % 10)
    first, again, other = (partition(workload, 7, alpha=0.3, seed=root_seed(seed)) for seed in (1, 1, 2))
    assert [share.tolist() for share in first] == [share.tolist() for share in again]
    assert [share.tolist() for share in first] != [share.tolist() for share in other]


def test_a_user_belongs_to_one_device_where_users_are_as_many_as_devices_or_more(text_workload):
    groups = np.repeat(np.arange(11), 5)
    shares = partition(text_workload(groups, has_users=True), 4, alpha=0.3, seed=SEED)
    users = [set(groups[share].tolist()) for share in shares]
    assert sum(len(mine) for mine in users) == 11, "no user lives on two devices"
    assert sorted(len(mine) for mine in users) == [2, 3, 3, 3]


def test_a_device_belongs_to_one_user_where_users_are_fewer(text_workload):
    groups = np.array([0] * 60 + [1] * 20 + [2] * 10)
    shares = partition(text_workload(groups, has_users=True), 9, alpha=0.3, seed=SEED)
    owners = [set(groups[share].tolist()) for share in shares]
    assert all(len(owner) == 1 for owner in owners)
    devices_of = [sum(owner == {user} for owner in owners) for user in range(3)]
    assert devices_of == [6, 2, 1], "the busier the user, the more devices"


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_an_alpha_that_is_no_positive_number_is_refused(text_workload, alpha):
    with pytest.raises(InputError, match="alpha"):
        partition(text_workload([0, 1]), 2, alpha=alpha, seed=SEED)


def test_no_devices_are_refused(text_workload):
    with pytest.raises(InputError, match="at least one"):
        partition(text_workload([0, 1]), 0, alpha=0.3, seed=SEED)


@given(st.lists(st.integers(0, 5), min_size=0, max_size=200), st.integers(0, 1000))
def test_three_equal_parts_hold_each_label_within_one_row_and_every_label_of_three_rows(labels, seed):
    array = np.array(labels, dtype=np.int64)
    parts = stratified_parts(array, (1 / 3, 1 / 3, 1 / 3), generator(root_seed(seed), "test"))
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    for label in set(labels):
        counts = [int((array[part] == label).sum()) for part in parts]
        assert max(counts) - min(counts) <= 1
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
