"""Errors a user can act on.

Each carries one line: the place, the fact and the cure. The command line prints it and exits with 1;
a traceback is a bug of ours.

    ResearchLoopError
    ├── ConfigError      lab.toml or a command-line value does not hold
    ├── LabError         the lab's folder is not what the ledger or the command expects
    │   ├── LockedError  another loop holds this lab
    │   └── PinError     a locked file changed since the baseline
    ├── DataError        documents, tokenizer or rows cannot be had or are broken
    ├── GitError         git is missing or refused
    ├── LedgerError      the ledger cannot be read or written
    ├── ProposalError    a proposal that is not worth a run: does not parse, unchanged, tried before
    ├── SandboxError     a run cannot be contained as asked for
    └── RunError         a run could not be started (a run that fails is a result, not an error)
"""

from __future__ import annotations


class ResearchLoopError(Exception):
    """Base of all errors meant for the user; ``str(error)`` is one line."""


class ConfigError(ResearchLoopError):
    """lab.toml or a command-line value does not hold."""


class LabError(ResearchLoopError):
    """The lab's folder is not what the ledger or the command expects."""


class LockedError(LabError):
    """Another loop holds this lab."""


class PinError(LabError):
    """A locked file changed since the baseline."""


class DataError(ResearchLoopError):
    """Documents, tokenizer or rows cannot be had or are broken."""


class GitError(ResearchLoopError):
    """git is missing or refused."""


class LedgerError(ResearchLoopError):
    """The ledger cannot be read or written; `full` says that the disk is."""

    full = False


class ProposalError(ResearchLoopError):
    """A proposal that is not worth a run."""


class SandboxError(ResearchLoopError):
    """A run cannot be contained as asked for."""


class RunError(ResearchLoopError):
    """A run could not be started."""
