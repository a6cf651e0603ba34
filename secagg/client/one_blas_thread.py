"""One BLAS thread in this process while we encrypt: the lanes keep the cores busy, and BLAS's own threads get in their way.

Its matrices are small: with BLAS's threads as they are by default, two lanes take about twice as long. The training job around us
gets its threads back afterwards.
"""

from __future__ import annotations

from threading import Lock
from typing import Final

from threadpoolctl import threadpool_limits


class OneBlasThread:
    """A context that any number of threads may enter at a time: the first one sets the limit, the last one lifts it.

    The limit is the process's: were each caller to put back what it found, the last might put back the limit.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._limits: threadpool_limits | None = None

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._limits = threadpool_limits(limits=1, user_api="blas")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._limits is not None:
                self._limits.restore_original_limits()
                self._limits = None


one_blas_thread: Final = OneBlasThread()
"""Of this process."""
