"""What becomes of the faults of a model's server, and of the user's key: one line each, and the time is kept."""

from __future__ import annotations

import contextlib
import email.utils
import gc
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from asking import BOTH, EDITED, FREE, GOOD, KEY, Drafted, arguments, at, call, edit, ready, request, said
from research_loop.errors import ConfigError
from research_loop.proposers import api
from research_loop.records import Files, Usage
from research_loop.testing.loopback import Loopback
from research_loop.testing.models import ScriptedModel, Turn


@pytest.fixture(autouse=True)
def drafted(monkeypatch: pytest.MonkeyPatch) -> Drafted:
    return ready(monkeypatch)


# ------------------------------------------------------------------------------------------------------ half an answer


MESSAGE = json.dumps({"content": [{"type": "text", "text": json.dumps(GOOD)}], "stop_reason": "max_tokens"}).encode()
HALVES = {
    "cut off": ("anthropic", Turn(json.dumps(GOOD), cut=40), "was cut off"),
    "cut before its body": ("openai", Turn(json.dumps(GOOD), cut=0), "was cut off"),
    "broken": ("anthropic", Turn(body=b'{"content": [{"type": "te'), "not one of a model"),
    "not an object": ("openai", Turn(body=b"[]"), "not one of a model"),
    "not JSON": ("openai", Turn(body=b"<html>Log in</html>"), "not one of a model"),
    "an error": ("openai", Turn(body=b'{"error": {"message": "provider is down"}}'), "provider is down"),
    "at its limit": ("anthropic", Turn(body=MESSAGE), "cut off at its longest"),
    "at its limit, too": ("openai", arguments(json.dumps(GOOD), reason="length"), "cut off at its longest"),
    "too large": ("openai", Turn(body=b" " * 4_100_000), "larger than 4,000,000 bytes"),
}


@pytest.mark.parametrize("half", HALVES)
def test_half_an_answer_is_a_failed_attempt_and_is_asked_again(drafted: Drafted, half: str) -> None:
    vendor, turn, told = HALVES[half]
    draft, asked = drafted(vendor, turn, call())
    assert draft.proposal.files["train.py"] == EDITED and len(asked) == 2 and told in said(asked[1])
    assert [message["role"] for message in asked[1].body["messages"]][-3:] == ["user", "assistant", "user"]
    draft, asked = drafted(vendor, turn)
    assert draft.proposal is None and len(asked) == 3 and told in draft.detail


# ------------------------------------------------------------------------------------------- servers that do not answer


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503, 529])
def test_what_may_pass_is_tried_again(drafted: Drafted, status: int) -> None:
    draft, asked = drafted("anthropic", Turn("busy", status=status), call())
    assert draft.proposal and len(asked) == 2 and asked[0].body == asked[1].body
    assert draft.usage.tokens_in == 1000


def test_a_storm_of_429_is_waited_out_as_the_server_asks(drafted: Drafted) -> None:
    later = email.utils.formatdate(time.time() + 2.1, usegmt=True)  # whole seconds: 1.1 s from now at least
    storm = [Turn("slow down", status=429, headers={"Retry-After": value}) for value in ("0.3", later)]
    began = time.monotonic()
    draft, asked = drafted("openai", *storm, call())
    assert draft.proposal and len(asked) == 3 and time.monotonic() - began >= 1.1


@pytest.mark.parametrize("after", ["nan", "-5", "soon"])
def test_waits_end_with_the_time_of_the_draft(drafted: Drafted, after: str) -> None:
    storm = Turn("slow down", status=429, headers={"Retry-After": after})
    began = time.monotonic()
    draft, asked = drafted("anthropic", storm, seconds=0.8)
    assert draft.proposal is None and 0.8 <= time.monotonic() - began < 3 and len(asked) < 9
    assert "HTTP 429 (slow down), asked " in draft.detail and ": wait, or ask for less" in draft.detail


@pytest.mark.parametrize("after", ["1000000", "1e300", "inf", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_wait_beyond_the_time_of_the_draft_is_not_begun(drafted: Drafted, after: str) -> None:
    began = time.monotonic()
    draft, asked = drafted("anthropic", Turn("slow down", status=429, headers={"Retry-After": after}))
    assert draft.proposal is None and time.monotonic() - began < 10 and len(asked) == 1
    assert "HTTP 429 (slow down), asked 1 times in 0 s, the next time in " in draft.detail


@pytest.mark.parametrize("turn", [Turn("busy", status=429), Turn("busy", status=503), Turn("busy", cut=0, status=500)])
def test_a_server_that_is_only_busy_is_given_up_before_the_time_is_over(
    drafted: Drafted, monkeypatch: pytest.MonkeyPatch, turn: Turn
) -> None:
    monkeypatch.setattr(api, "BUSY_SECONDS", 1.0)
    monkeypatch.setattr(api, "UNREACHED_SECONDS", 0.0)
    began = time.monotonic()
    draft, asked = drafted("openai", turn)
    assert draft.proposal is None and 1.0 <= time.monotonic() - began < 20 and len(asked) > 1
    assert f"HTTP {turn.status}" in draft.detail and f"asked {len(asked)} times in" in draft.detail


def test_a_server_that_is_not_reached_is_given_up_sooner_than_a_busy_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert api.UNREACHED_SECONDS < api.BUSY_SECONDS
    monkeypatch.setattr(api, "UNREACHED_SECONDS", 0.5)
    with ScriptedModel([call()]) as gone:
        pass
    began = time.monotonic()
    draft = at(monkeypatch, "openai", gone.url).draft(request())
    assert "ConnectError" in draft.detail and 0.5 <= time.monotonic() - began < 10 and draft.usage == FREE


@BOTH
def test_a_server_that_is_down_is_asked_until_the_time_is_over(monkeypatch: pytest.MonkeyPatch, vendor: str) -> None:
    with ScriptedModel([call()]) as gone:
        pass
    draft = at(monkeypatch, vendor, gone.url).draft(request(seconds=0.8))
    assert draft.proposal is None and "ConnectError" in draft.detail and "asked 1 times" not in draft.detail
    assert draft.usage == FREE
    assert f"check the network and {vendor.upper()}_BASE_URL" in draft.detail


def test_a_server_that_hangs_up_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = json.dumps({"choices": [{"message": {"content": json.dumps(GOOD)}}]}).encode()
    seen: list[str] = []

    class HangsUp(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.path)
            if len(seen) > 1:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(answer)

    with served(HangsUp) as url:
        draft = at(monkeypatch, "openai", url).draft(request())
    assert draft.proposal and len(seen) == 2 and draft.usage == Usage()


@contextlib.contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = Loopback(handler)
    server.start()
    yield server.url
    server.stop()


WAIT = Turn(f"busy, {KEY}", status=429, headers={"Retry-After": "15"})
SLOW = [(Turn(seconds=30), Usage(), ""), (WAIT, FREE, "; before that: HTTP 429 (busy, [key])")]


@BOTH
@pytest.mark.parametrize(("turn", "usage", "before"), SLOW)
def test_a_stop_ends_a_request_and_a_wait_at_once(
    drafted: Drafted, vendor: str, turn: Turn, usage: Usage, before: str
) -> None:
    """A request that a server has may cost something; one that it refused does not."""
    stopped = threading.Event()
    threading.Timer(0.6, stopped.set).start()
    began = time.monotonic()
    draft, asked = drafted(vendor, turn, stopped=stopped)
    assert 0.55 < time.monotonic() - began < 2.5
    assert (draft.proposal, draft.detail, len(asked)) == (None, f"{vendor}:m: stopped{before}", 1)
    assert draft.usage == usage


def test_a_stop_ends_a_connection_in_the_making(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stopped = threading.Event()
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):  # more than wait to be accepted: the next ones get no answer
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        drafter = at(monkeypatch, "anthropic", f"http://127.0.0.1:{full.getsockname()[1]}")
        threading.Timer(0.3, stopped.set).start()
        began = time.monotonic()
        draft = drafter.draft(request(stopped=stopped))
        assert 0.25 < time.monotonic() - began < 2.5
    assert draft.detail == "anthropic:m: stopped" and draft.usage == FREE
    gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio"], "a task was left behind"


def test_nobody_is_asked_after_a_stop(drafted: Drafted) -> None:
    stopped = threading.Event()
    stopped.set()
    draft, asked = drafted("anthropic", call(), stopped=stopped)
    assert draft.detail == "anthropic:m: stopped" and asked == [] and draft.usage == FREE


def test_of_a_storm_and_a_silence_after_it_the_storm_is_told(drafted: Drafted) -> None:
    draft, _ = drafted("openai", Turn("overloaded", status=503), Turn(seconds=30), seconds=1.0)
    assert "HTTP 503 (overloaded), asked 2 times in 1 s: try again later" in draft.detail
    assert draft.usage == Usage()


def test_an_answer_that_trickles_ends_with_the_time_and_with_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    class Trickles(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b" ")
                    time.sleep(0.02)
            except OSError:
                ended.set()  # the client hung up: a model would stop, too

    with served(Trickles) as url:
        drafter, stopped = at(monkeypatch, "openai", url), threading.Event()
        began = time.monotonic()
        draft = drafter.draft(request(seconds=0.3))
        assert draft.proposal is None and "no answer within the time of a draft, asked 1 times" in draft.detail
        assert ": ask a faster model, or try again later" in draft.detail
        assert time.monotonic() - began < 2 and ended.wait(2)
        threading.Timer(0.2, stopped.set).start()
        assert drafter.draft(request(stopped=stopped)).detail == "openai:m: stopped" and time.monotonic() - began < 4


REFUSALS = [
    (401, "ANTHROPIC_API_KEY to a key that this server knows"),
    (402, "pay in"),
    (403, "may use this model"),
    (404, "the model's name and ANTHROPIC_BASE_URL"),
    (400, "check the model's name"),
    (307, "the address that it redirects to"),
]


@pytest.mark.parametrize(("status", "cure"), REFUSALS)
def test_what_does_not_pass_is_not_tried_again_and_names_the_cure(drafted: Drafted, status: int, cure: str) -> None:
    with ScriptedModel([call()]) as elsewhere:
        turn = Turn("so it is", status=status, headers={"Location": elsewhere.url + "/v1/messages"})
        draft, asked = drafted("anthropic", turn)
        assert draft.proposal is None and len(asked) == 1 and elsewhere.asked == []
    assert f"HTTP {status} (so it is): " in draft.detail and cure in draft.detail


def test_an_empty_purse_is_not_a_rate_limit(drafted: Drafted) -> None:
    body = json.dumps({"error": {"message": "no quota", "code": "insufficient_quota"}}).encode()
    draft, asked = drafted("openai", Turn(status=429, body=body))
    assert len(asked) == 1 and "HTTP 429 (no quota): pay in" in draft.detail
    for words in ("Your credit balance is too low to access this API", "Check your plan and Billing details"):
        draft, asked = drafted("anthropic", Turn(words, status=400))
        assert len(asked) == 1 and f"HTTP 400 ({words}): pay in" in draft.detail
    draft, asked = drafted("openai", Turn("for a higher rate, see /billing", status=429), call())
    assert draft.proposal and len(asked) == 2


@BOTH
def test_a_server_that_takes_no_long_answers_is_asked_for_shorter_ones(drafted: Drafted, vendor: str) -> None:
    words = "maximum context length is 8192 tokens, you asked for 26000 (in messages, in tools)"
    for told in (words, "max_tokens must be at most 4096"):
        draft, asked = drafted(vendor, Turn(told, status=400), Turn(told, status=400), call())
        assert draft.proposal and [ask.body["max_tokens"] for ask in asked] == [16_000, 8_000, 4_000]
        assert "tools" in asked[-1].body
    draft, asked = drafted(vendor, Turn("m takes a context size of 4096 tokens", status=400))
    assert [ask.body["max_tokens"] for ask in asked] == [16_000, 8_000, 4_000, 2_000, 1_000]
    assert "of 4096 tokens): ask a model that takes longer prompts" in draft.detail


def test_a_proxy_that_cannot_be_used_is_a_line_of_its_own(drafted: Drafted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://127.0.0.1:1")
    draft, asked = drafted("openai", call())
    assert draft.proposal is None and "mend HTTPS_PROXY, ALL_PROXY" in draft.detail and not asked
    assert draft.usage == FREE


@pytest.mark.parametrize(
    "proxy",
    ["http://me:hunter2/x@proxy:3128", "http://me:hunter2#@proxy:1", "ftp://hunter2/@proxy", "socks9://hunter2"],
)
def test_a_password_of_a_proxy_that_cannot_be_used_is_not_shown(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    draft = at(monkeypatch, "openai", "http://model.invalid").draft(request())
    assert "a proxy's URL is none of http, https or socks5): mend HTTPS_PROXY" in draft.detail
    assert "hunter2" not in draft.detail and draft.usage == FREE


def test_a_port_of_a_proxy_that_none_can_have_ends_the_draft_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://me:hunter2@127.0.0.1:99999")
    draft = at(monkeypatch, "openai", "http://model.invalid").draft(request())
    assert draft.detail.startswith(
        "openai:m at model.invalid: the address of the server or of a proxy cannot be used: "
    )
    assert "mend HTTPS_PROXY" in draft.detail and "hunter2" not in draft.detail and draft.usage == FREE


def test_a_proxy_that_refuses_the_connection_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refuses(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            self.send_error(502)

    with served(Refuses) as url:
        monkeypatch.setenv("HTTPS_PROXY", url)
        draft = at(monkeypatch, "openai", "https://model.invalid").draft(request(seconds=0.8))
    assert "ProxyError: 502" in draft.detail and draft.usage == FREE


# -------------------------------------------------------------------------------------------------- the key, the server


@BOTH
def test_the_key_is_in_a_header_and_nowhere_else(
    drafted: Drafted, vendor: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    draft, (asked,) = drafted(vendor, call())
    header = {"anthropic": "x-api-key", "openai": "authorization"}[vendor]
    assert asked.headers.pop(header) == {"anthropic": KEY, "openai": f"Bearer {KEY}"}[vendor]
    drafter = getattr(api, vendor)("m")
    for shown in (asked, draft, drafter, vars(drafter), caplog.text):
        assert KEY not in repr(shown)
    assert "POST" in caplog.text


@BOTH
def test_a_key_that_a_server_repeats_whole_or_masked_is_hidden(drafted: Drafted, vendor: str) -> None:
    for words in (f"Incorrect API key provided: {KEY}.", f"bad key {KEY[:9]}****cdef"):
        draft, _ = drafted(vendor, Turn(words, status=401))
        assert "[key]" in draft.detail and KEY[:8] not in draft.detail and "cdef" not in draft.detail
    draft, _ = drafted(vendor, call({**GOOD, "why": f"your key is {KEY}"}))
    assert draft.proposal.why == "your key is [key]"
    draft, _ = drafted(vendor, edit(search=KEY, path=KEY))
    assert "[key]" in draft.detail and KEY not in draft.detail


def test_answers_whose_check_failed_for_another_reason_are_kept_and_checked_before_their_run(drafted: Drafted) -> None:
    def check(files: Files) -> None:
        raise OSError(28, "No space left on device")

    paid = {"prompt_tokens": 1000, "completion_tokens": 50, "cost": 0.5}
    draft, _ = drafted("openai", arguments(json.dumps(GOOD), usage=paid), check=check)
    assert draft.proposal is not None and draft.usage.usd == 0.5
    assert "its edit could not be checked (OSError: [Errno 28] No space left on device)" in draft.detail


def test_a_dummy_key_is_no_secret(drafted: Drafted, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, kept in (("none", "none, or no"), ("ollama!", "ollama! or no"), ("secret12", "[key] or secret123")):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        draft, _ = drafted("openai", call({**GOOD, "risk": kept.replace("[key]", key)}))
        assert draft.proposal.risk == kept


@BOTH
def test_a_server_of_ones_own_needs_no_key_and_the_vendors_does(
    drafted: Drafted, monkeypatch: pytest.MonkeyPatch, vendor: str
) -> None:
    monkeypatch.setenv(f"{vendor.upper()}_API_KEY", " \n")
    draft, (asked,) = drafted(vendor, call())
    assert draft.proposal and not {"x-api-key", "authorization"} & set(asked.headers)
    monkeypatch.delenv(f"{vendor.upper()}_BASE_URL")
    with pytest.raises(ConfigError, match=f"{vendor.upper()}_API_KEY is not set: set it, or {vendor.upper()}_BASE"):
        getattr(api, vendor)("m")


@BOTH
def test_the_vendors_own_server_is_the_default(vendor: str) -> None:
    drafter = getattr(api, vendor)(" m ")
    home = {
        "anthropic": "https://api.anthropic.com/v1/messages",
        "openai": "https://api.openai.com/v1/chat/completions",
    }
    assert (drafter.name, drafter.url, drafter.vendors_own) == (f"{vendor}:m", home[vendor], True)
    assert drafter.drafts is True and getattr(getattr(api, vendor), "drafts", False) is True


@BOTH
def test_a_missing_model_a_broken_url_and_a_broken_key_name_the_cure(
    monkeypatch: pytest.MonkeyPatch, vendor: str
) -> None:
    factory = getattr(api, vendor)
    with pytest.raises(ConfigError, match=f"--proposer {vendor}:MODEL"):
        factory(" ")
    for key in ("sk-1\nsk-2", "schlüssel"):
        monkeypatch.setenv(f"{vendor.upper()}_API_KEY", key)
        with pytest.raises(ConfigError, match="characters that no key has") as caught:
            factory("m")
        assert key not in str(caught.value)
    ports = [f"http://u:secret@h:{port}/v1" for port in ("99999", "-5", "0", "x")]
    for url in ("127.0.0.1:80", "ftp://u:secret@h", "http://", "http://[::1", "file:///x", *ports):
        monkeypatch.setenv(f"{vendor.upper()}_BASE_URL", url)
        with pytest.raises(ConfigError, match=f"{vendor.upper()}_BASE_URL is not a server's URL") as caught:
            factory("m")
        assert "secret" not in str(caught.value)


def test_anthropics_base_url_may_end_in_v1_and_passwords_in_it_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedModel([Turn(status=404)]) as server:
        url = server.url.replace("http://", "http://me:secret@")
        for base in (url, url + "/", url + "/v1/"):
            monkeypatch.setenv("ANTHROPIC_BASE_URL", base)
            draft = api.anthropic("m").draft(request())
            assert "secret" not in draft.detail and server.url.removeprefix("http://") in draft.detail
        assert {asked.path for asked in server.asked} == {"/v1/messages"}
