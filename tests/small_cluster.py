"""A Ray cluster of a few nodes on this machine, by Ray's own utility, for tests of what runs on one."""

import os
from contextlib import contextmanager

import pytest
from other_processes import python_path

from mixed_signals.store.cluster import PATIENT_TRIES

STORE_BYTES = 80 << 20  # of each node's object store: the least that Ray takes


@contextmanager
def small_cluster(nodes=2, cpus=1):
    """Yield a cluster whose head works too; nodes can be added to it and removed."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'mixed-signals[ray]'")
    # What tests hand to workers is defined in these folders.
    os.environ["PYTHONPATH"] = python_path()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_idle_worker_killing_time_threshold_ms"] = "600000"  # noqa: SIM112 - fewer processes are begun
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray's own; at its 15 a busy machine leaves no time
    os.environ.setdefault(*PATIENT_TRIES)  # Ray is imported before `connected` sets it
    os.environ["RAY_health_check_period_ms"] = "1000"  # noqa: SIM112 - so that a node that is gone is missed soon
    from ray.cluster_utils import Cluster

    node = {"num_cpus": cpus, "object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        for _ in range(nodes - 1):
            cluster.add_node(**node)
        yield cluster
    finally:
        cluster.shutdown()
