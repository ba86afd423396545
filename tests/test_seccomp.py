"""The seccomp program, run by an interpreter of the kernel's rules, for both architectures."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest

from research_loop import seccomp


def judged(program: bytes, architecture: int, number: int, *arguments: int) -> int:
    """What the kernel would answer: the few instructions of classic BPF that the filter is made of."""
    data = struct.pack("=IIQ6Q", number, architecture, 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    steps = list(struct.iter_unpack("=HBBI", program))
    accumulator = at = 0
    while True:
        operation, when_true, when_false, value = steps[at]
        at += 1
        if operation == seccomp.LOAD:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif operation == seccomp.RETURN:
            return int(value)
        else:
            true = {
                seccomp.EQUAL: accumulator == value,
                seccomp.AT_LEAST: accumulator >= value,
                seccomp.ANY_BIT: bool(accumulator & value),
            }[operation]
            at += when_true if true else when_false


EPERM, ENOSYS = seccomp.ERRNO | errno.EPERM, seccomp.ERRNO | errno.ENOSYS


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_refuses_what_it_should_and_nothing_else(machine: str) -> None:
    numbers, architecture = seccomp.numbers(machine), seccomp.AUDIT_ARCHITECTURE[machine]
    for isolated in (True, False):
        program = seccomp.program(isolated, machine)

        def answer(name: str, *arguments: int, program: bytes = program) -> int:
            return judged(program, architecture, numbers[name], *arguments)

        assert {answer(name) for name in numbers if name in seccomp.CALLS} == {EPERM}
        assert {answer(name) for name in seccomp.ABSENT} == {ENOSYS}
        apart, pretended = (seccomp.ALLOW, seccomp.ALLOW) if isolated else (EPERM, seccomp.ERRNO)
        assert {answer(name) for name in numbers if name in seccomp.SHARED} == {apart}
        assert {answer(name) for name in numbers if name in seccomp.PRETENDED} == {pretended}
        assert {answer("ioctl", 3, flags) for flags in seccomp.FILE_FLAGS} == {apart}
        assert answer("clone", 0x3D0F00) == seccomp.ALLOW, "a thread"
        assert answer("clone", 0x10000011) == answer("clone", 0x20000 | 17) == EPERM
        assert answer("ioctl", 0, 0x5412) == answer("ioctl", 0, (1 << 32) | 0x541C) == EPERM
        assert answer("ioctl", 0, 0x5401) == seccomp.ALLOW
        assert answer("prlimit64", 0) == seccomp.ALLOW and answer("prlimit64", 99) == EPERM
        inside = seccomp.ALLOW if isolated else EPERM
        assert [answer("socket", family, 1) for family in (2, 10)] == [inside] * 2
        assert answer("connect", 3) == answer("socket", 1, 2) == answer("socketpair", 1, 2 | 0o2000000) == inside
        for local in ("socket", "socketpair"):
            assert {answer(local, 1, kind | 0o2000000) for kind in (1, 5)} == {seccomp.ALLOW}, (
                "stream, packets in order"
            )
        assert {answer("socket", family) for family in (16, 17, 40)} == {EPERM}
        named = set(numbers.values())
        others = [number for number in range(470) if number not in named]
        assert {judged(program, architecture, number) for number in others} == {seccomp.ALLOW}
        assert judged(program, 0x40000003, 1) == seccomp.KILL, "32-bit calls have other numbers"


def test_root_changes_no_modes_and_times_even_where_it_is_isolated() -> None:
    numbers, program = seccomp.numbers("x86_64"), seccomp.program(True, "x86_64", root=True)
    judgements = {name: judged(program, 0xC000003E, numbers[name]) for name in ("fchmodat", "utimensat", "shmget")}
    assert judgements == {"fchmodat": seccomp.ERRNO, "utimensat": seccomp.ERRNO, "shmget": seccomp.ALLOW}


def test_the_second_interface_of_x86_is_closed() -> None:
    for number in (0x40000000, 0x40000000 | 101, 0xFFFFFFFF):
        assert judged(seccomp.program(True, "x86_64"), 0xC000003E, number) == ENOSYS


def test_the_numbers_are_the_kernels() -> None:
    headers = {
        "x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
        "aarch64": "/usr/include/asm-generic/unistd.h",
    }
    checked = 0
    for machine, header in headers.items():
        if Path(header).exists():
            lines = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(header).read_text())
            known = {name: int(number) for name, number in lines}
            ours = {name: number for name, number in seccomp.numbers(machine).items() if name in known}
            assert ours == {name: known[name] for name in ours} and len(ours) > 50
            checked += 1
    if not checked:
        pytest.skip("no kernel headers here")


def test_another_architecture_is_refused() -> None:
    assert not seccomp.supported("riscv64")
    with pytest.raises(ValueError):
        seccomp.numbers("riscv64")
