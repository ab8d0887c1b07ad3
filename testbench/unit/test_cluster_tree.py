# amaranth: UnusedElaboratable=no
"""ClusterTree: a tree of modules for any number of clusters; its networks have benches each."""

import re

import pytest

from acceltran.arch.config import override
from acceltran.arch.presets import TINY
from acceltran.cluster_node import ClusterNode
from acceltran.cluster_tree import ClusterTree, all_clusters
from acceltran.distribution.tree import leaves_of_branches, tree_levels
from acceltran.library import Library


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": 0}, "Level must be at least 1, not 0"),
        ({"leaves": 0}, "Number of clusters must be from 1 to 16 at level 2, not 0"),
        ({"leaves": 17}, "Number of clusters must be from 1 to 16 at level 2, not 17"),
    ],
)
def test_rejects(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        ClusterTree(**{"config": TINY, "level": 2, "leaves": 5, **change})


def test_levels():
    levels = [tree_levels(leaves) for leaves in (1, 2, 4, 5, 16, 17, 64)]
    assert levels == [0, 1, 1, 2, 2, 3, 3]
    assert leaves_of_branches(3, 1) == [1, 1, 1]
    assert leaves_of_branches(16, 2) == [4, 4, 4, 4]
    assert leaves_of_branches(37, 3) == [16, 16, 5]


def test_one_cluster_is_no_tree():
    assert isinstance(all_clusters(TINY), ClusterNode)


@pytest.mark.parametrize(
    ("clusters", "below"),
    [
        (2, {"leaves2": ["ClusterNode"] * 2}),
        (
            6,
            {
                "leaves6": ["ClusterTree_level1_leaves4", "ClusterTree_level1_leaves2"],
                "leaves4": ["ClusterNode"] * 4,
                "leaves2": ["ClusterNode"] * 2,
            },
        ),
    ],
)
def test_hierarchy(clusters, below):
    """Which trees and nodes each tree holds, under which numbers."""
    config = override(TINY, {"array.pes": str(clusters), "array.pes_per_cluster": "1"})
    verilog = Library().convert_verilog(all_clusters(config), name="top")
    modules = re.split(r"^(?=module )", verilog, flags=re.MULTILINE)
    root = f"top_ClusterTree_level{tree_levels(clusters)}_leaves{clusters}"
    found = {}
    for module in modules:
        inside = re.findall(r"^  top_(Cluster(?:Node|Tree)\w*) \w+ \($", module, re.MULTILINE)
        if inside:
            name = module.split("(")[0].split()[1].replace("top", root, 1)
            found[name.rsplit("_", 1)[1]] = inside
    assert found == below
