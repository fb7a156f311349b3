"""Cores and memory of containers, and images that are decoded within a bound of bytes."""

import os
import threading
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import cjkclip
from cjkclip.errors import InputError
from cjkclip.image import pixels
from cjkclip.machine import limits
from cjkclip.machine.limits import cores, memory
from cjkclip.machine.memory import Room
from support.processes import printed

V2, V1 = "0::/box/inner\n", "5:cpu,cpuacct:/box\n4:memory:/box\n3:pids:/\n"


def system(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.fixture(autouse=True)
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 64),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "1000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 64),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/box/cpu.max": "300000 100000\n"}, 3),
        (
            {
                "proc/self/cgroup": V2,
                "sys/fs/cgroup/box/inner/cpu.max": "400000 100000",
                "sys/fs/cgroup/box/cpu.max": "max 1",
            },
            4,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "250000",
                "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000",
            },
            64,
        ),
        ({"proc/self/cgroup": "damaged\n\n::\n", "sys/fs/cgroup/cpu.max": "x"}, 64),
    ],
)
def test_cores_of_a_container(files: dict[str, str], expected: int, tmp_path: Path) -> None:
    assert cores(system(tmp_path, files)) == expected


FREE = {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 8000 kB\n"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (FREE, 8000 << 10),
        (FREE | {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, 8000 << 10),
        (
            FREE
            | {
                "proc/self/cgroup": V2,
                "sys/fs/cgroup/box/memory.max": "5000000",
                "sys/fs/cgroup/box/memory.current": "1000000",
            },
            4_000_000,
        ),
        (
            FREE
            | {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "3000000",
                "sys/fs/cgroup/memory/box/memory.usage_in_bytes": "4000000",
            },
            0,
        ),
    ],
)
def test_memory_of_a_container(files: dict[str, str], expected: int, tmp_path: Path) -> None:
    assert memory(system(tmp_path, files)) == expected


def test_the_limit_of_the_address_space_counts() -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 << 30,) * 2)"
    script = f"from cjkclip.machine.limits import memory; {limit}; print(memory() < 3 << 30)"
    assert printed("-c", script) == "True\n"


def test_parts_of_a_bound_wait_for_each_other() -> None:
    room, inside, most = Room(lambda: 10), list[int](), list[int]()

    def work(size: int) -> None:
        with room.part() as take:
            take(size)
            inside.append(size)
            most.append(sum(inside))
            time.sleep(0.01)
            inside.remove(size)

    threads = [threading.Thread(target=work, args=(size,)) for size in (6, 6, 4, 99, 3, 3, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(most) == 7
    assert {total for total in most if total > 10} == {99}  # larger than the bound: alone


def test_a_failure_gives_its_part_back() -> None:
    room = Room(lambda: 10)

    def fail() -> None:
        with room.part() as take:
            take(10)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with room.part() as take:
        take(10)


# VmHWM, not ru_maxrss: a process that is started inherits the latter from the one that starts it.
PEAK = """
import os, re, sys
from pathlib import Path
os.sched_getaffinity = lambda _: set(range(64))
import numpy as np
import cjkclip
clip = cjkclip.load("moji", engine="numpy")
clip.preprocess([sys.argv[1]] * 32)
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) >> 10)
"""


def test_32_photos_of_48_megapixels_fit_into_a_gigabyte(tmp_path: Path) -> None:
    small = np.random.default_rng(0).integers(0, 256, (75, 100, 3), dtype=np.uint8)
    PIL.Image.fromarray(small).resize((8000, 6000)).save(tmp_path / "big.jpg")
    assert int(printed("-c", PEAK, str(tmp_path / "big.jpg"))) < 1000


def test_the_bound_is_a_quarter_of_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = list[int]()
    monkeypatch.setattr(pixels, "memory", lambda: 400)
    monkeypatch.setattr(pixels, "Room", lambda most: sizes.append(most()) or Room(most))
    import cjkclip

    cjkclip.load("moji", engine="numpy").preprocess([np.zeros((9, 9, 3), np.uint8)])
    assert sizes == [100]
    assert limits.memory() > 0


def test_a_number_of_threads_may_be_stated(tmp_path: Path) -> None:
    assert cores(tmp_path) == 64
    with limits.using(3):
        assert cores(tmp_path) == 3
        with limits.using(None):
            assert cores(tmp_path) == 3
        with limits.using(100):
            assert cores(tmp_path) == 100
    assert cores(tmp_path) == 64


FOLLOWED = """
import numpy as np, cjkclip, torch
from cjkclip.machine import limits, threads

pools = []
real = threads.ThreadPoolExecutor
threads.ThreadPoolExecutor = lambda workers, name: (pools.append(workers), real(workers, name))[1]
limits.bound_to = lambda: 64
torch.set_num_threads(5)
images = [np.full((9, 9, 3), shade, np.uint8) for shade in range(20)]
for quota, stated in ((64, 1), (1, None), (1, 2)):
    limits._quota = lambda root: quota
    clip = cjkclip.load("moji", engine="openvino", threads=stated)
    clip.encode_image(images)
    [graph] = [graph for graph, _ in clip.engine._compiled.values()]
    clip, seen = cjkclip.load("moji", engine="torch", threads=stated), []
    clip.engine.towers.vision.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    clip.encode_image(images[:1])
    print(graph.get_property("INFERENCE_NUM_THREADS"), *seen, torch.get_num_threads(), *sorted(set(pools)))
"""


def test_pools_and_engines_follow_the_quota_and_the_stated_threads() -> None:
    """OpenVINO's threads, torch's during and after a call, and the pool that decodes images, if there is one."""
    assert printed("-c", FOLLOWED).splitlines() == ["1 1 5", "1 1 5", "2 2 5 2"]


def test_the_command_line_states_threads() -> None:
    code = "import sys; from cjkclip.cli import main; sys.exit(main())"
    assert "panda" in printed("-c", code, "search", "panda", "--threads", "1", "-k", "1")
    with pytest.raises(InputError, match="threads is 0"):
        cjkclip.load("moji", threads=0)
