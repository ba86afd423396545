"""Keys of the environment are hidden where somebody quotes them, and other words are left alone."""

from __future__ import annotations

import pytest

from research_loop import keys

BODY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7"
PEM = f"-----BEGIN PRIVATE KEY-----\n{BODY}\n{BODY[::-1]}\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("name", "value", "text", "shown"),
    [
        ("A_API_KEY", "sk-dummy-0123456789abcdef", "bad key sk-dummy-****cdef.", "bad key [key]"),
        ("A_API_KEY", "secret12", "secret12 or secret123", "[key] or secret123"),
        ("A_API_KEY", "none", "none, or no", "none, or no"),
        ("A_PASSWORD", "@hunter22", "mia@hunter22 is wrong", "mia[key] is wrong"),
        ("A_PASSWORD", "hunter2;;", "it is hunter2;;, no", "it is [key], no"),
        ("A_PASSWORD", "pass[12]", "it is pass[12].", "it is [key]."),
        ("DB_PASSWORD_URL", "postgres://mia:hunter2secret99@db/x", "at hunter2secret99@db:5432", "at [key]"),
        ("A_SECRET", "/abcdefgh+1234567890ABC", "no /abcdefg***ABC", "no [key]"),
        ("A_API_KEY", "training-server-dummy", "pretraining", "pretraining"),
        ("A_API_KEY", "training-server-dummy", "training is slow", "training is slow"),
        ("A_CREDENTIALS", f'{{"private":"{BODY}"}}', f"it has {BODY} in it", "it has [key] in it"),
        ("A_PASSWORD", "correct horse battery staple", "said correct  horse battery staple", "said [key]"),
        ("A_CREDENTIALS", f'{{"private": "{BODY}"}}', f"it has {BODY} in it", "it has [key] in it"),
        (
            "A_CREDENTIALS_FILE",
            "/home/mia/.config/key.json",
            "/home/mia/.cache: is a link",
            "/home/mia/.cache: is a link",
        ),
        ("A_CREDENTIALS_FILE", "/home/mia/.config/key.json", "no /home/mia/.config/key.json", "no [key]"),
        ("A_TOKEN_URL", "https://login.example.org/oauth", "see https://example.org/a", "see https://example.org/a"),
        ("A_NAME", "sk-dummy-0123456789abcdef", "sk-dummy-0123456789abcdef", "sk-dummy-0123456789abcdef"),
    ],
)
def test_a_key_is_hidden_and_what_only_looks_like_it_is_not(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, text: str, shown: str
) -> None:
    monkeypatch.setattr("os.environ", {name: value})
    assert keys.hide(text) == shown


def test_of_a_key_of_several_lines_nothing_is_left_that_says_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {"A_KEY": PEM})
    for quoted in (PEM.replace("\n", " "), f"in line 2: {BODY}"):
        assert BODY[:8] not in keys.hide(quoted) and BODY[::-1][:8] not in keys.hide(quoted)


def test_a_word_that_was_in_the_file_before_is_no_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {"OPENAI_API_KEY": "training"})
    assert not keys.holds(b"# training, faster", b"# training")
    assert keys.holds(b"# training, faster", b"# slow")


@pytest.mark.parametrize("written", [BODY, PEM.replace("\n", "\r\n"), repr(PEM)])
def test_a_line_of_a_key_in_code_is_a_leak(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setattr("os.environ", {"A_KEY": PEM})
    assert keys.holds(f"KEY = {written!r}\n".encode()) and not keys.holds(b"KEY = None\n")
