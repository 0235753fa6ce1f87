"""Keeps the stack's processes alive, and ends them in order."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from danbao_local.children import Child
from danbao_local.errors import StackFailed

FIRST_BACKOFF_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 5.0
_STEADY_SECONDS = 20.0
"""A child that lived this long starts its backoff anew."""
_LOOK_EVERY_SECONDS = 0.05


class Supervisor:
    """Started children are watched by a thread each; one that ends is started again.

    `say` gets a line for a person; `on_change` is called after every start, when pids differ.
    """

    def __init__(
        self, *, say: Callable[[str], None] = lambda _line: None, on_change: Callable[[], None] = lambda: None
    ) -> None:
        self._say = say
        self._on_change = on_change
        self._stopping = threading.Event()
        self._starting = threading.Lock()
        self._children: list[Child] = []
        self._keepers: list[threading.Thread] = []

    @property
    def pids(self) -> dict[str, int]:
        """Pid by name, of the children that have one."""
        return {child.name: child.pid for child in list(self._children) if child.pid is not None}

    @property
    def is_stopping(self) -> bool:
        """Whether stop() was called."""
        return self._stopping.is_set()

    def start(self, child: Child) -> None:
        """Start a child, wait until it is ready, and keep it from then on. Raises ChildFailed."""
        with self._starting:
            if self._stopping.is_set():
                raise StackFailed("The stack is stopping.")
            self._children.append(child)
            child.start()
        self._on_change()
        child.wait_until_ready()
        keeper = threading.Thread(target=self._keep, args=(child,), name=f"keep-{child.name}", daemon=True)
        self._keepers.append(keeper)
        keeper.start()

    def stop(self, order: Sequence[Sequence[str]] = ()) -> None:
        """Stop the groups of names in order, those of a group at once, then whatever is left."""
        self._stopping.set()
        with self._starting:
            pass  # a child being started right now is in the list before we look at it
        for keeper in self._keepers:
            keeper.join()
        rest = list(self._children)
        for names in order:
            group = [child for child in rest if child.name in names]
            rest = [child for child in rest if child not in group]
            _stop_at_once(group)
        _stop_at_once(rest)
        self._children.clear()

    def _keep(self, child: Child) -> None:
        backoff = FIRST_BACKOFF_SECONDS
        started = time.monotonic()
        while not self._stopping.wait(_LOOK_EVERY_SECONDS):
            code = child.poll()
            if code is None:
                continue
            if time.monotonic() - started > _STEADY_SECONDS:
                backoff = FIRST_BACKOFF_SECONDS
            self._say(f"{child.name} ended with code {code}; starting it again in {backoff:.1f} s")
            if self._stopping.wait(backoff):
                return
            backoff = min(backoff * 2, LONGEST_BACKOFF_SECONDS)
            started = time.monotonic()
            try:
                child.start()
            except Exception as error:  # noqa: BLE001 - whatever it was, the next round tries again
                self._say(f"{child.name} could not be started: {error}")
                continue
            self._on_change()


def _stop_at_once(group: Sequence[Child]) -> None:
    if not group:
        return
    with ThreadPoolExecutor(max_workers=len(group)) as pool:
        for stopping in [pool.submit(child.stop) for child in group]:
            stopping.result()
