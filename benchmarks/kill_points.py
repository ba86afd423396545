"""Kills and starves a loop at every call, one by one, and looks whether its promises hold after the next start.

    ./uv run python benchmarks/kill_points.py [--only calls|syscalls|disk] [--every N] [--parallel 2]

Prints a table. `calls` are those that the harness itself makes (testing/faults.py); `syscalls` those that harness and
each of its gits make, by strace (testing/syscalls.py); `disk` is a small file system, filled at random moments
(testing/disks.py).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import get_args

from research_loop.testing import disks, syscalls
from research_loop.testing.faults import Action
from research_loop.testing.points import Scene, Tried, calls, faults, scenes, try_fault

Group = tuple[str, list[Callable[[Path], Tried]]]


def call_points(all_scenes: list[Scene], folder: Path) -> Iterator[Group]:
    for scene in all_scenes:
        names = calls(scene, folder / "calls")
        for action in get_args(Action):
            tries = [partial(try_fault, scene, fault, name=names[fault.at - 1]) for fault in faults(names, action)]
            yield f"calls, {scene.name}: {action}", tries


def syscall_points(all_scenes: list[Scene], folder: Path) -> Iterator[Group]:
    if trouble := syscalls.missing():
        print(f"no system calls: {trouble}")
        return
    for scene in all_scenes:
        found = syscalls.points(scene, folder / "points")
        for how in get_args(syscalls.How):
            tries = [partial(syscalls.try_point, scene, point, how) for point in found if syscalls.fits(point, how)]
            yield f"system calls, {scene.name}: {how}", tries


def disk_points(all_scenes: list[Scene], folder: Path) -> Iterator[Group]:
    if trouble := disks.missing():
        print(f"no small disk: {trouble}")
        return
    for scene in all_scenes:
        moments = [0.4 * i / 40 for i in range(40)]
        yield f"a small disk, {scene.name}: full", [partial(disks.try_moment, scene, moment) for moment in moments]


GROUPS = {"calls": call_points, "syscalls": syscall_points, "disk": disk_points}


def call(numbered: tuple[Path, Callable[[Path], Tried]]) -> Tried:
    folder, attempt = numbered
    return attempt(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=GROUPS)
    parser.add_argument("--every", type=int, default=1, help="only every so-manieth point")
    parser.add_argument("--parallel", type=int, default=2)
    arguments = parser.parse_args()
    total, failed, started = 0, 0, time.monotonic()
    with tempfile.TemporaryDirectory() as place, ProcessPoolExecutor(arguments.parallel, get_context("fork")) as pool:
        all_scenes = scenes(Path(place, "scenes"))
        for name, group in GROUPS.items():
            for title, tries in group(all_scenes, Path(place)) if arguments.only in (None, name) else ():
                chosen = [(Path(place, f"{i}"), attempt) for i, attempt in enumerate(tries[:: arguments.every])]
                tried = list(pool.map(call, chosen))
                report(title, tried)
                total += len(tried)
                failed += sum(bool(each.broken) for each in tried)
    print(f"{total} points, {total - failed} held, {time.monotonic() - started:.0f} s")
    sys.exit(failed > 0)


def report(title: str, tried: list[Tried]) -> None:
    held = sum(not each.broken for each in tried)
    slowest = max((each.restart_seconds or 0.0 for each in tried), default=0.0)
    ended = sum(each.reached for each in tried)
    counts = f"| {len(tried)} points | {ended} ended the loop | {held} held |"
    print(f"| {title} {counts} next experiment after {slowest:.2f} s at most |", flush=True)
    for each in tried:
        for fact in each.broken:
            print(f"  {each.scene}: {each.point}: {fact}", flush=True)


if __name__ == "__main__":
    main()
