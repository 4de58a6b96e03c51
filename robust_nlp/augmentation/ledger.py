"""Costly work on many items: kept on disk item by item, resumed, and shared by processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from robust_nlp.errors import DataError
from robust_nlp.files import open_behind_lines

Result = dict[str, Any]


def work_through(
    keys: Sequence[str],
    work: Callable[[list[int]], list[Result]],
    *,
    folder: str | Path | None,
    name: str,
    chunk: int = 1,
    processes: Any = None,
) -> list[Result]:
    """Return the result of each item; what is in the folder already is not done again.

    Under `torchrun` or `accelerate launch`, processes share the items, and all return all results;
    they need the folder for that. Without one, each process does everything. Each process writes a
    file of its own, a line an item, so that an interruption loses a chunk of items at most.

    Args:
        keys: What decides the result of each item. Results under other keys do not count.
        work: Takes positions of items, and returns one result for each, of plain values.
        folder: Where results are kept; `None` keeps none.
        name: What is done, for the progress bar.
        chunk: Items per call of `work`.
        processes: The `accelerate.PartialState`; `None` takes that of this process.

    Raises:
        DataError: If another process did not do its part.
    """
    from accelerate import PartialState
    from accelerate.utils import tqdm

    everything = range(len(keys))
    if folder is None:
        done: dict[str, Result] = {}
        with tqdm(total=len(keys), desc=name) as bar:
            for positions in _chunks(list(everything), chunk):
                done.update(_results(keys, positions, work))
                bar.update(len(positions))
        return [done[key] for key in keys]
    state = PartialState() if processes is None else processes
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    done = read_results(folder)
    # Shared by position, and not by what is left, which changes while processes look.
    mine = everything[state.process_index :: state.num_processes]
    left = [i for i in mine if keys[i] not in done]
    with (
        tqdm(total=len(mine), initial=len(mine) - len(left), desc=name) as bar,
        open_behind_lines(folder / f"part-{state.process_index:03d}.jsonl") as file,
    ):
        for positions in _chunks(left, chunk):
            for key, result in _results(keys, positions, work).items():
                file.write(json.dumps({"key": key, **result}) + "\n")
            file.flush()
            bar.update(len(positions))
    state.wait_for_everyone()
    done = read_results(folder)
    missing = sum(key not in done for key in keys)
    if missing:
        raise DataError(
            f"{name}: {missing} of {len(keys)} results are missing in {folder}: another process "
            "stopped early, or writes to another folder. Start again to go on"
        )
    return [done[key] for key in keys]


def read_results(folder: Path) -> dict[str, Result]:
    """Return what is in a folder, by key; a line that was cut off does not count."""
    found: dict[str, Result] = {}
    for path in sorted(folder.glob("part-*.jsonl")):
        for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
            try:
                result = json.loads(line)
                found[result.pop("key")] = result
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(f"{path} holds a line that is no result: {line[:60]!r}") from error
    return found


def _results(
    keys: Sequence[str], positions: list[int], work: Callable[[list[int]], list[Result]]
) -> dict[str, Result]:
    return {keys[i]: result for i, result in zip(positions, work(positions), strict=True)}


def _chunks(positions: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(positions), size):
        yield positions[start : start + size]
