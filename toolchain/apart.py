"""Calls a function in a process of its own.

OR-Tools crashes in a process that loaded TensorFlow before it; the other way round it does not.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import TypeVar

from toolchain.errors import ToolError

Result = TypeVar("Result")


def apart(function: Callable[..., Result], *given: object, **named: object) -> Result:
    """The function's result, or the exception that it raised. Everything goes through pipes.

    Raises ToolError when the process ends without an answer.
    """
    argv = [sys.executable, "-m", __name__]
    done = subprocess.run(argv, input=pickle.dumps((function, given, named)), stdout=subprocess.PIPE, check=False)
    if done.returncode or not done.stdout:
        raise ToolError(f"the process that chooses the hardware ended with exit code {done.returncode}")
    result, error = pickle.loads(done.stdout)  # noqa: S301 - from the process that was just started
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def is_needed() -> bool:
    """Would OR-Tools crash in this process?"""
    return "tensorflow" in sys.modules and "ortools" not in sys.modules


def main() -> None:
    """Answers one call."""
    function, given, named = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this one
    answer: tuple[object, Exception | None]
    try:
        answer = function(*given, **named), None
    except Exception as error:  # noqa: BLE001 - raised again by the caller
        answer = None, error
    sys.stdout.buffer.write(pickle.dumps(answer))


if __name__ == "__main__":
    main()
