"""Where this process is at work: the stacks of its threads and of its asyncio tasks, as text that cannot grow large."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
import traceback
from typing import Final

MAX_TASKS: Final = 200
MAX_FRAMES: Final = 20
"""Of each stack, the innermost ones."""
MAX_CHARS: Final = 256 * 1024


def page(title: str) -> str:
    """Called in the loop whose tasks are shown; ``title`` says which process it is. Ends with a newline."""
    parts = [f"==== {title}\n"]
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        parts.append(f"\nthread {names.get(ident, ident)}:\n")
        parts += traceback.format_stack(frame)[-MAX_FRAMES:]
    tasks = asyncio.all_tasks()
    parts.append(f"\n{len(tasks)} tasks\n")
    for task in list(tasks)[:MAX_TASKS]:
        text = io.StringIO()
        task.print_stack(limit=MAX_FRAMES, file=text)
        parts.append(f"\n{text.getvalue()}")
    whole = "".join(parts)
    return whole if len(whole) <= MAX_CHARS else whole[:MAX_CHARS] + "\n(cut)\n"
