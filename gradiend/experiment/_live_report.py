"""The live view: a server, for this machine alone, that shows the report of a run as it grows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from gradiend.trainer.core._callback import TrainingCallback
from gradiend.util._imports import require_package
from gradiend.util._processes import alone
from gradiend.util.logging import get_logger

logger = get_logger(__name__)

HOST = "127.0.0.1"
REFRESH = 3
"""Seconds after which the page asks for its next version."""
NAMES = {"localhost", HOST, "[::1]"}
"""Host names under which the page is served; other names come from pages that try to reach this server."""


class LiveReport(TrainingCallback, AbstractContextManager["LiveReport"]):
    """Serves the growing report of a run in a with-block, from a file that the end of the block removes.

    As a callback it shows each evaluation of a training.

    `write(path, training=…, refresh=…)` writes what there is now, see `write_report`; the port 0 is a free one.
    """

    only_watches = True

    def __init__(self, path: Path, write: Callable[..., object], port: int = 0) -> None:
        require_package("jinja2", "A report", "report")
        self.page = b"<!doctype html><title>gradiend</title><p>The run has begun."
        self._path, self._write = path, write
        self._server = ThreadingHTTPServer((HOST, port), _handler(self))
        self._server.daemon_threads = True
        self._training: dict[str, Any] | None = None

    @property
    def address(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self._server.server_address[1]}/"

    def __enter__(self) -> LiveReport:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        logger.warning("The report grows at %s", self.address)
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._path.unlink(missing_ok=True)

    def update(self) -> None:
        """Make the page of what there is now."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with alone():
                self._write(self._path, training=self._training, refresh=REFRESH)
            self.page = self._path.read_bytes()
        except (OSError, ValueError) as error:
            # A page that cannot be written must not end the run that it shows.
            logger.warning("The live report was not renewed: %s", error)

    def on_step_end(
        self, step: int, loss: float, model: Any, config: Any, training_stats: Mapping[str, Any] | None = None,
        eval_result: Any = None, losses: list[float] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        """Show the curve after an evaluation."""
        del step, loss, model, kwargs
        if eval_result is not None:
            self._training = {
                "training_stats": dict(training_stats or {}), "best_score_checkpoint": None,
                "training_args": config.to_dict(), "time": {}, "losses": list(losses or []), "convergence_info": None,
            }  # fmt: skip
            self.update()

    def on_train_end(self, config: Any, **kwargs: Any) -> None:
        """Read the statistics of the finished training from now on."""
        del config, kwargs
        self._training = None


def _handler(page: LiveReport) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Send the page; refuse other places, and requests under another host name, which other pages may send."""
            host = (self.headers.get("Host") or "").rsplit(":", 1)[0]
            if host not in NAMES:
                self.send_error(403)
            elif self.path != "/":
                self.send_error(404)
            else:
                content = page.page
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            del format, args

    return Handler
