"""Text from outside, made harmless for terminals, tables and models."""

from __future__ import annotations

import re

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)")


def plain(text: str) -> str:
    """One line: no escapes, control or invisible characters, no lone surrogates; tabs and line ends become spaces."""
    text = _ANSI.sub("", text).expandtabs(4).replace("\n", " ").replace("\r", " ")
    return "".join(c if c.isprintable() else "?" if "\ud800" <= c <= "\udfff" else "" for c in text)


def plain_lines(text: str) -> str:
    """The same for a text of several lines, which keep their indentation."""
    return "\n".join(plain(line).rstrip() for line in text.split("\n"))
