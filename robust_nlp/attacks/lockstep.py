"""Many pieces of ordinary code in step: what they ask at the same time is answered together.

Each piece runs in a thread of its own, but only one thread runs at any time. A piece that calls
`ask` waits until all the others wait too; then one call answers what all of them asked. The global
generators of Python, NumPy and torch (on the CPU) belong to the piece that runs, so that what it
draws depends on its seed alone.
"""

from __future__ import annotations

import ctypes
import random  # noqa: TID251 - TextAttack draws from its global generator
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

#: Answers a list of items with one answer each, in their order.
Answers = Callable[[list[Any]], Sequence[Any]]

_here = threading.local()


class Interruption(BaseException):
    """Ends a piece of work from outside; no `except Exception` on the way stops it."""


class OutOfTime(Interruption):
    """A piece of work used up its seconds."""


@dataclass(frozen=True)
class Job:
    """A piece of work.

    Attributes:
        work: What to do. It is told a slot, in `0..width-1`, that no other piece uses meanwhile.
        seed: Seed of the global generators for this piece, at least 0.
    """

    work: Callable[[int], Any]
    seed: int


@dataclass(frozen=True)
class Ended:
    """How a piece of work ended.

    Attributes:
        result: What it returned, or the interruption that ended it.
        seconds: Seconds of its own code, and its part of answers shared with others.
    """

    result: Any
    seconds: float


def ask(answers: Answers, items: Sequence[Any]) -> list[Any]:
    """Have items answered, together with those of other pieces of work if there are any.

    Args:
        answers: Answers them; items of equal functions are answered in one call.
        items: The items.

    Returns:
        One answer an item.
    """
    task: _Task | None = getattr(_here, "task", None)
    return list(answers(list(items))) if task is None else task.ask(answers, list(items))


def run(
    jobs: Iterable[Job],
    on_done: Callable[[int, Ended], None],
    *,
    width: int,
    max_seconds: float | None = None,
) -> None:
    """Do pieces of work, several at once.

    Args:
        jobs: The pieces; the next one is fetched when there is room for it.
        on_done: Called with position and end of each piece as it ends. The global generators are
            those of the caller then, and whenever items are answered.
        width: Pieces at once at most.
        max_seconds: Seconds of a piece at most (see `Ended`), after which it is interrupted even
            inside an endless loop of Python.

    Raises:
        Exception: What a piece of work or an answering function raises; the others are ended.
    """
    waiting, slots = iter(enumerate(jobs)), list(reversed(range(width)))
    running: list[_Task] = []
    try:
        while True:
            for task in list(running):
                task.step(max_seconds)
                if task.ended:
                    running.remove(task)
                    slots.append(task.slot)
                    _hand_in(task, on_done)
            while slots and (job := next(waiting, None)) is not None:
                task = _Task(job[0], job[1], slots.pop())
                running.append(task)
                task.step(max_seconds)
                if task.ended:
                    running.remove(task)
                    slots.append(task.slot)
                    _hand_in(task, on_done)
            if not running:
                return
            _answer(running)
    finally:
        for task in running:
            task.end()


def _hand_in(task: _Task, on_done: Callable[[int, Ended], None]) -> None:
    if task.error is not None and not isinstance(task.error, Interruption):
        raise task.error
    result = task.result if task.error is None else task.error
    on_done(task.position, Ended(result, task.seconds))


def _answer(tasks: Sequence[_Task]) -> None:
    asked: dict[Answers, list[_Task]] = defaultdict(list)
    for task in tasks:
        asked[task.asked[0]].append(task)
    for answers, askers in asked.items():
        items = [item for task in askers for item in task.asked[1]]
        clock = time.perf_counter()
        found = list(answers(items))
        seconds = time.perf_counter() - clock
        if len(found) != len(items):
            raise ValueError(f"expected {len(items)} answers; got {len(found)}")
        start = 0
        for task in askers:
            size = len(task.asked[1])
            task.answered = found[start : start + size]
            task.seconds += seconds * size / max(1, len(items))
            start += size


class _Task:
    """One piece of work and its thread."""

    def __init__(self, position: int, job: Job, slot: int) -> None:
        self.position, self.slot = position, slot
        self.seconds = 0.0
        self.ended = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.asked: tuple[Answers, list[Any]] = (list, [])
        self.answered: list[Any] = []
        self._stop: Interruption | None = None
        self._work = job.work
        self._state = _seeded(job.seed)
        # A piece runs while it has taken `_go` and before it gives `_back`.
        self._go, self._back = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._back.acquire()
        self._running = False
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()

    def ask(self, answers: Answers, items: list[Any]) -> list[Any]:
        """Wait for answers; called by the piece of work itself."""
        self.asked = (answers, items)
        self._back.release()
        self._go.acquire()
        if self._stop is not None:
            raise self._stop
        return self.answered

    def step(self, max_seconds: float | None) -> None:
        """Let the piece run until it asks or ends."""
        left = -1.0 if max_seconds is None else max_seconds - self.seconds
        if max_seconds is not None and left <= 0.0:
            self._stop = OutOfTime()
            left = 1.0
        outside = _state()
        _restore(self._state)
        clock = time.perf_counter()
        try:
            self._running = True
            self._go.release()
            if not self._back.acquire(timeout=left):
                self._interrupt(OutOfTime)
            self._running = False
        finally:
            self.seconds += time.perf_counter() - clock
            self._state = _state()
            _restore(outside)

    def end(self) -> None:
        """End the piece, whatever it does."""
        if self._running:
            self._interrupt(Interruption)
        while not self.ended:  # it may ask once more on its way out
            self._stop = Interruption()
            self._go.release()
            if not self._back.acquire(timeout=1.0):
                self._interrupt(Interruption)
        self._thread.join()

    def _interrupt(self, error: type[Interruption]) -> None:
        """Raise an error inside the thread, again and again until it gives way."""
        while True:
            identity = ctypes.c_ulong(self._thread.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, ctypes.py_object(error))
            if self._back.acquire(timeout=0.2):
                return
            if not self._thread.is_alive():  # the error came when the work was just done
                self.error, self.ended = self.error or error(), True
                return

    def _main(self) -> None:
        _here.task = self
        self._go.acquire()
        try:
            if self._stop is not None:
                raise self._stop
            self.result = self._work(self.slot)
        except BaseException as error:
            self.error = error
        self.ended = True
        self._back.release()


State = tuple[Any, Any, torch.Tensor]


def _state() -> State:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002


def _restore(state: State) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    torch.set_rng_state(state[2])


def _seeded(seed: int) -> State:
    outside = _state()
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002, TID251
    torch.default_generator.manual_seed(seed)
    state = _state()
    _restore(outside)
    return state
