"""What can go wrong with the local stack, each in one sentence for the person at the keyboard."""

import errno
from pathlib import Path


class StackFailed(Exception):
    """The stack cannot do what was asked; the message is one sentence that says what to do."""


class PortTaken(StackFailed):
    """A port that was asked for is in use."""

    def __init__(self, *, port: int, variable: str) -> None:
        super().__init__(f"Port {port} is taken by another process: set {variable} to a free one, or leave it out.")


class DiskFull(StackFailed):
    """No space for the databases or the logs."""

    def __init__(self, *, place: Path | str, free_mib: int, needed_mib: int) -> None:
        super().__init__(f"The disk is full: {place} has {free_mib} MiB left and {needed_mib} MiB are needed.")


class ChildFailed(StackFailed):
    """A process of the stack ended, or did not get ready, at the start."""

    def __init__(self, *, name: str, what: str, log_path: Path) -> None:
        super().__init__(f"{name} {what}; its log is {log_path}.")


class NotRunning(StackFailed):
    """No stack runs on this state directory."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(f"No stack is running on {state_dir}: start one with `make run`.")


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or what PostgreSQL said, means that the disk is full."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "No space left on device" in str(error)
