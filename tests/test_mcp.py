"""A real client over standard input and output drives a lab: typed answers, errors to act on, two clients at once."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="mcp is not installed here: uv sync --extra mcp")

import mcp

from research_loop.lab import Lab
from runs import edit


def server(root: Path) -> Any:
    """How a client starts the server."""
    return mcp.StdioServerParameters(command=sys.executable, args=["-m", "research_loop", "mcp", str(root)])


def drive(root: Path, talk: Callable[[Any], Awaitable[None]]) -> None:
    async def main() -> None:
        async with mcp.Client(server(root)) as client:
            await talk(client)

    asyncio.run(main())


async def call(client: Any, tool: str, **arguments: object) -> Any:
    answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer.content
    return answer.structured_content


async def refused(client: Any, tool: str, **arguments: object) -> str:
    answer = await client.call_tool(tool, arguments)
    assert answer.is_error
    return str(answer.content[0].text)


def test_an_agent_runs_an_experiment_and_brings_its_code_back(begun_lab: Lab) -> None:
    async def talk(client: Any) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"try_start", "try_wait", "status", "show", "brief", "restore"}
        assert all(tool.description and tool.output_schema for tool in tools.values())
        assert "val_bpb becomes lower" in (await call(client, "brief"))["result"]
        edit(begun_lab, "WARMDOWN_RATIO = 0.5", "WARMDOWN_RATIO = 0.25")
        began = time.monotonic()
        assert await call(client, "try_start", what="WARMDOWN_RATIO 0.5 -> 0.25", why="a guess") == {"n": 1}
        early = await call(client, "try_wait", n=1, seconds=0)
        assert early["verdict"] is None and early["score"] is None
        facts = await call(client, "status")
        assert facts["experiments"] == 2 and facts["champion"]["n"] == 0
        outcome = await call(client, "try_wait", n=1)
        assert time.monotonic() - began > 1.0
        assert outcome["verdict"] == "discard" and outcome["detail"] and outcome["score"] > 0.9 and outcome["runs"] == 1
        assert "WARMDOWN_RATIO = 0.5" in (begun_lab.root / "train.py").read_text()
        assert "as in experiment 1" in (await call(client, "restore", n=1))["result"]
        assert "WARMDOWN_RATIO = 0.25" in (begun_lab.root / "train.py").read_text()
        shown = (await call(client, "show", n=1))["result"]
        assert "why: a guess" in shown and "+WARMDOWN_RATIO = 0.25" in shown

    drive(begun_lab.root, talk)


def test_an_error_is_a_line_that_says_what_to_do(begun_lab: Lab) -> None:
    async def talk(client: Any) -> None:
        assert "edit it first" in await refused(client, "try_start", what="nothing")
        assert "there is none; the ledger has 0 to 0" in await refused(client, "show", n=7)
        edit(begun_lab, "def score():", "def score(:")
        said = await refused(client, "try_start", what="a typing error")
        assert "train.py" in said and "Traceback" not in said and said.count("\n") == 0

    drive(begun_lab.root, talk)


def test_without_a_lab_every_call_says_how_to_make_one(tmp_path: Path) -> None:
    async def talk(client: Any) -> None:
        for tool in ("status", "brief"):
            assert "research-loop" in await refused(client, tool)

    drive(tmp_path / "none", talk)


def test_two_clients_are_served_at_once_and_one_of_them_experiments(begun_lab: Lab) -> None:
    async def main() -> None:
        async with mcp.Client(server(begun_lab.root)) as one, mcp.Client(server(begun_lab.root)) as two:
            edit(begun_lab, "WARMDOWN_RATIO = 0.5", "WARMDOWN_RATIO = 0.25")
            assert await call(one, "try_start", what="one") == {"n": 1}
            assert "another loop holds this lab" in await refused(two, "try_start", what="two")
            waits = [asyncio.create_task(call(client, "try_wait", n=1)) for client in (one, two, one)]
            began = time.monotonic()
            assert (await call(one, "status"))["experiments"] == 2, "a call that waits blocks no other"
            assert not any(wait.done() for wait in waits) or time.monotonic() - began > 1
            outcomes = await asyncio.gather(*waits)
            assert [outcome["verdict"] for outcome in outcomes] == ["discard"] * 3

    asyncio.run(main())


def test_what_an_agent_began_outlives_its_server(begun_lab: Lab) -> None:
    async def begin(client: Any) -> None:
        edit(begun_lab, "WARMDOWN_RATIO = 0.5", "WARMDOWN_RATIO = 0.25")
        assert await call(client, "try_start", what="one") == {"n": 1}

    async def later(client: Any) -> None:
        assert (await call(client, "try_wait", n=1))["verdict"] == "discard"

    drive(begun_lab.root, begin)
    drive(begun_lab.root, later)
