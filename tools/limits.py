"""What a submission may take while it is graded: time, memory, words. And its execution within these limits."""

import copy
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_output
from nbgrader.preprocessors import Execute

CELL_SECONDS = 60
NOTEBOOK_SECONDS = 300
MEMORY = 3 * 2**30  # bytes of the kernel and all that it starts; torch alone takes about 0.5 GiB
PRINTED = 10**6  # characters a cell
FILE = 50 * 2**20  # bytes of a notebook file
LATE = "not run: the notebook had taken too long"
HIDDEN = "hidden"  # the tag of cells that run between the student's, and are not shown


def hidden(source: str) -> NotebookNode:
    return new_code_cell(source, metadata={"tags": [HIDDEN]})


class LimitedExecute(Execute):
    """nbgrader's execution, with limits: a cell that breaks one, or the kernel, fails, and the others are run without it.

    A cell cannot always be interrupted, so the kernel is killed, and a new one runs the notebook anew.
    """

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        self.timeout, self.shutdown_kernel = None, "immediate"
        self.extra_arguments = ["--log-level=ERROR"]
        self.failed: dict[int, str] = {}  # cell number to reason
        self.end = time.monotonic() + NOTEBOOK_SECONDS
        while True:
            self.running, self.culprit = None, None
            book = copy.deepcopy(nb)
            try:
                with self._watched():
                    super().preprocess(book, resources)
                break
            except DeadKernelError:
                if self.running is None:  # before the first cell: no cell is to blame
                    raise
                number, reason = self.culprit or (self.running, "it ended the kernel")
                self.failed[number] = reason
                if time.monotonic() > self.end:
                    for cell, late in zip(book.cells[number:], range(number, len(book.cells)), strict=True):
                        fail(cell, self.failed.get(late, LATE))
                    break
        for cell in book.cells:
            for output in cell.get("outputs", []):
                if output.get("name") == "stderr":  # nbgrader takes a warning for an error
                    output.name = "stdout"
        book.cells = [cell for cell in book.cells if HIDDEN not in cell.metadata.get("tags", [])]
        return book, resources

    def preprocess_cell(self, cell: NotebookNode, resources: dict, index: int) -> tuple[NotebookNode, dict]:
        if index in self.failed or time.monotonic() > self.end:
            fail(cell, self.failed.get(index, LATE))
            return cell, resources
        if self.running is None:
            self.kernel = psutil.Process(self.km.provisioner.pid)
        self.began, self.printed, self.running = time.monotonic(), 0, index
        return super().preprocess_cell(cell, resources, index)

    def process_message(self, msg: dict, cell: NotebookNode, cell_index: int) -> NotebookNode | None:
        if msg["msg_type"] in ("stream", "display_data", "execute_result", "update_display_data"):
            self.printed += len(json.dumps(msg["content"], default=str))
            if self.printed > PRINTED:
                self._kill(f"it printed more than {PRINTED:,} characters")
                return None
        return super().process_message(msg, cell, cell_index)

    def _kill(self, reason: str) -> None:
        self.culprit = self.culprit or (self.running, reason)
        with suppress(psutil.Error):
            for child in self.kernel.children(recursive=True):
                with suppress(psutil.Error):  # it may have ended meanwhile
                    child.kill()
            self.kernel.kill()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Kill the kernel when its cell takes too long, or when it and what it starts hold too much memory."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.05):
                if self.running is None:
                    continue
                if time.monotonic() - self.began > CELL_SECONDS:
                    self._kill(f"it took more than {CELL_SECONDS} s")
                with suppress(psutil.Error):
                    tree = [self.kernel, *self.kernel.children(recursive=True)]
                    if sum(process.memory_info().rss for process in tree) > MEMORY:
                        self._kill(f"it took more than {MEMORY / 2**30:.1f} GiB of memory")

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()


def fail(cell: NotebookNode, reason: str) -> None:
    """Give a cell that was not run, or not to its end, an error that says why."""
    if cell.cell_type == "code":
        cell.outputs = [new_output("error", ename="Stopped", evalue=reason, traceback=[f"Stopped: {reason}"])]
