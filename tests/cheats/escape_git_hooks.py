"""Leaves hooks and core.fsmonitor in the lab's .git, so that the harness's own git runs our code (E2)."""

import spy
import tiny

EXPECT = "contained"
BLIND = True
SCRIPT = f"#!/bin/sh\ntouch /tmp/{spy.MARK}-hook\n"


def plant(lab):
    hooks = lab / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("post-index-change", "reference-transaction", "post-commit", "post-checkout"):
        hook = hooks / name
        hook.write_text(SCRIPT)
        hook.chmod(0o755)
    with (lab / ".git" / "config").open("a") as config:
        config.write(f"\n[core]\n\tfsmonitor = {hooks / 'post-commit'}\n\thooksPath = {hooks}\n")
    return True


spy.attempt(spy.each, plant, spy.labs())
tiny.main()
