"""The cores that `workers = "auto"` stands for, over trees of files as the kernel lays them out."""

import os
from pathlib import Path

import pytest

from supervisor.config.cores import cgroup_quota, usable_cores


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("own", "files", "affinity", "cores"),
    [
        pytest.param("0::/\n", {}, 8, 8, id="no quota"),
        pytest.param("0::/\n", {"cpu.max": "max 100000\n"}, 8, 8, id="v2, unlimited"),
        pytest.param("0::/\n", {"cpu.max": "200000 100000\n"}, 8, 2, id="v2, in a container"),
        pytest.param("0::/\n", {"cpu.max": "150000 100000\n"}, 8, 2, id="a part of a core counts as one"),
        pytest.param("0::/\n", {"cpu.max": "10000 100000\n"}, 8, 1, id="never less than one"),
        pytest.param("0::/\n", {"cpu.max": "800000 100000\n"}, 4, 4, id="affinity is the smaller bound"),
        pytest.param(
            "0::/system.slice/a.service\n",
            {"system.slice/a.service/cpu.max": "max 100000", "system.slice/cpu.max": "300000 100000"},
            8,
            3,
            id="a slice above bounds its services",
        ),
        pytest.param(
            "0::/a/b\n", {"a/cpu.max": "500000 100000", "a/b/cpu.max": "200000 50000"}, 8, 4, id="the smallest of all"
        ),
        pytest.param("0::/docker/abc\n", {"cpu.max": "200000 100000"}, 8, 2, id="the host's path is not mounted"),
        pytest.param("0::/../../x\n", {"cpu.max": "200000 100000"}, 8, 2, id="a path out of the namespace"),
        pytest.param(
            "4:cpu,cpuacct:/box\n1:name=systemd:/\n",
            {"cpu,cpuacct/box/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/box/cpu.cfs_period_us": "100000\n"},
            8,
            3,
            id="v1",
        ),
        pytest.param(
            "4:cpu,cpuacct:/\n",
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            8,
            8,
            id="v1, unlimited",
        ),
        pytest.param(
            "4:memory:/\n0::/box\n", {"unified/box/cpu.max": "300000 100000"}, 8, 3, id="both versions, the cpu in v2"
        ),
        pytest.param("0::/\n", {"cpu.max": "nonsense"}, 8, 8, id="what cannot be read does not bound"),
        pytest.param("0::/\n", {"cpu.max": "1000 0"}, 8, 8, id="a period of zero does not bound"),
        pytest.param("garbage\n", {"cpu.max": "100000 100000"}, 8, 1, id="an odd line is taken for the root"),
    ],
)
def test_usable_cores(tmp_path, own, files, affinity, cores):
    root = tree(tmp_path / "cgroup", files)
    own_cgroup = tmp_path / "own"
    own_cgroup.write_text(own)
    assert usable_cores(affinity=affinity, cgroup_root=root, own_cgroup=own_cgroup) == cores


def test_without_cgroups_affinity_alone_counts(tmp_path):
    assert cgroup_quota(tmp_path / "none", tmp_path / "none") is None
    assert usable_cores(affinity=3, cgroup_root=tmp_path / "none", own_cgroup=tmp_path / "none") == 3


def test_on_this_machine_it_is_at_least_one_and_at_most_the_affinity():
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))
