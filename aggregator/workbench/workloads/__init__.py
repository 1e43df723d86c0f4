"""The data that fedge is tried on, split once into three parts: what the server owns, what passes over the devices, and what
measures. Each workload is one file with one function; `load_workload` picks it by name.
"""

from aggregator.workbench.workloads.base import Split, Workload
from aggregator.workbench.workloads.facts import WorkloadFacts
from aggregator.workbench.workloads.load import WORKLOADS, load_workload
from aggregator.workbench.workloads.partition import partition
from aggregator.workbench.workloads.stream import Drawn, QueryStream

__all__ = ["Drawn", "QueryStream", "Split", "WORKLOADS", "Workload", "WorkloadFacts", "load_workload", "partition"]
