"""Work done ahead of time by threads, a bounded number of results at once."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def ahead(function: Callable[[A], B], items: Iterable[A], workers: int) -> Iterator[tuple[A, Callable[[], B]]]:
    """Yield each item with a call that returns, or raises, what the function makes of it.

    Args:
        function: Called in ``workers`` threads; with none, when the result is asked for.
        items: In this order.
        workers: The number of threads; at most twice as many results wait.
    """
    if workers == 0:
        yield from ((item, lambda item=item: function(item)) for item in items)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="relprop-photos")
    waiting: deque[tuple[A, Future[B]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(function, item)))
            if len(waiting) > 2 * workers:
                yield _taken(waiting)
        while waiting:
            yield _taken(waiting)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _taken(waiting: "deque[tuple[A, Future[B]]]") -> tuple[A, Callable[[], B]]:
    item, future = waiting.popleft()
    return item, future.result
