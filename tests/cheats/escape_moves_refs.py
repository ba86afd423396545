"""Moves the branches and the harness's refs of every repository it can find, by file and by git (E1)."""

import subprocess

import spy
import tiny

EXPECT = "contained"
BLIND = True


def move(lab):
    git = ["git", "-C", str(lab)]
    first = subprocess.run([*git, "rev-list", "--max-parents=0", "HEAD"], capture_output=True, text=True, check=True)
    subprocess.run([*git, "update-ref", f"refs/heads/{spy.MARK}", first.stdout.split()[0]], check=True)
    for ref in (lab / ".git" / "refs" / "heads").rglob("*"):
        if ref.is_file() and "autoresearch" in str(ref):
            ref.write_text(first.stdout.split()[0] + "\n")
    return True


spy.attempt(spy.each, move, spy.labs())
tiny.main()
