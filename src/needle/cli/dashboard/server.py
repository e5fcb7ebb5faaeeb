"""The server of `needle dashboard`: one page and the facts that it draws, on 127.0.0.1 alone.

Addresses name a run by a hash of its path and a sample by its name in the run's list; neither is
ever joined to a path, so that nothing outside the runs can be asked for. Requests whose Host is
another name are refused: a page of another site could otherwise read the runs by pointing its name
at this machine (DNS rebinding).
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import threading
from collections.abc import Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from ...train import RunFolder
from ...train.records import Record, find_runs, read_record
from ...train.rows import Columns, finite

MOST_POINTS = 1500  # of a curve that is sent
HOST = "127.0.0.1"


class DashboardServer(ThreadingHTTPServer):
    """Serves the runs in `folder` at `address`; port 0 takes a free one."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self._records: dict[Path, tuple[str, Record]] = {}
        self._lock = threading.Lock()  # a request has a thread of its own
        super().__init__((HOST, port), Handler)

    @property
    def address(self) -> str:
        """Where a browser finds the page."""
        return f"http://{HOST}:{self.server_port}/"

    def runs(self) -> dict[str, Path]:
        """The folders by the names that addresses have for them."""
        try:
            return {_name(folder): folder for folder in find_runs(self.folder)}
        except OSError:
            return {}

    def record(self, folder: Path) -> tuple[str, Record]:
        """(version, record); files are read again only when one has changed."""
        with self._lock:
            version, known = _version(folder), self._records.get(folder)
            if known is None:
                known = version, read_record(folder)
            elif known[0] != version:
                known = version, known[1].updated()
            self._records[folder] = known
        # Whether a process still holds the lock changes no file.
        return version, replace(known[1], state=known[1].run.state())


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: DashboardServer
    server_version, sys_version = "needle", ""

    def do_GET(self) -> None:
        """Send the page, the facts of all runs or of one, or a sample."""
        ports = (f":{self.server.server_port}", "")
        names = {host + port for host in (HOST, "localhost") for port in ports}
        if self.headers.get("Host", "").lower() not in names:
            return self._refuse(403, "this server answers to 127.0.0.1 and localhost alone")
        address = urlsplit(self.path)
        asked = {key: values[0] for key, values in parse_qs(address.query).items()}
        try:
            match address.path:
                case "/":
                    self._send_page()
                case "/api/runs":
                    self._send_json(self._all_runs())
                case "/api/run":
                    self._send_json(_details(self._record(asked)))
                case "/sample":
                    self._send_sample(self._record(asked), asked.get("name", ""))
                case _:
                    self._refuse(404, "no such page")
        except (KeyError, FileNotFoundError):
            self._refuse(404, "no such run or sample")
        except OSError as error:
            self._refuse(500, error.strerror or "the file cannot be read")
        return None

    def _all_runs(self) -> dict[str, object]:
        rows = []
        for name, folder in self.server.runs().items():
            try:
                version, record = self.server.record(folder)
            except OSError:  # removed just now
                continue
            rows.append({"id": name, "version": f"{version}-{record.state}", **_summary(record)})
        return {"folder": str(self.server.folder), "runs": rows}

    def _record(self, asked: Mapping[str, str]) -> Record:
        return self.server.record(self.server.runs()[asked.get("id", "")])[1]

    def _send_page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
            "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )
        self._send(page(nonce).encode(), "text/html; charset=utf-8", policy)

    def _send_json(self, facts: object) -> None:
        text = json.dumps(finite(facts), default=str, allow_nan=False, separators=(",", ":"))
        self._send(text.encode(), "application/json")

    def _send_sample(self, record: Record, name: str) -> None:
        path = {path.name: path for path in record.samples}[name]
        if not path.resolve().is_relative_to(record.run.path.resolve()):
            raise FileNotFoundError(name)  # a link that leads elsewhere
        kind = "image/png" if path.suffix == ".png" else "text/plain; charset=utf-8"
        self._send(path.read_bytes(), kind)

    def _refuse(self, code: int, why: str) -> None:
        self._send(why.encode(), "text/plain; charset=utf-8", code=code)

    def _send(
        self, body: bytes, kind: str, policy: str = "default-src 'none'", code: int = 200
    ) -> None:
        self.send_response(code)
        for key, value in {
            "Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store",
            "Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin",
        }.items():  # fmt: skip
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not printed."""


def page(nonce: str) -> str:
    """The page with its style and programs inside; `nonce` allows these and no others."""
    source = files(__package__)
    text = source.joinpath("page.html").read_text("utf-8").replace("NONCE", nonce)
    for name in ("page.css", "charts.js", "page.js"):
        text = text.replace(f"/* {name} */", source.joinpath(name).read_text("utf-8"))
    return text


def _name(folder: Path) -> str:
    return hashlib.sha256(bytes(folder.resolve())).hexdigest()[:16]


def _version(folder: Path) -> str:
    """Changes when a file of the run does."""
    facts, run = [], RunFolder(folder)
    for path in (run.metrics, run.status_file, run.config_file, run.confusion, run.samples):
        try:
            found = path.stat()
            facts.append((found.st_mtime_ns, found.st_size))
        except OSError:
            facts.append((0, 0))
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _summary(record: Record) -> dict[str, object]:
    best, loss = record.best(), record.last("loss")
    return {
        "name": record.name, "title": record.title, "state": record.state,
        **{key: record.progress(key) for key in ("step", "steps", "seconds", "updated")},
        "loss": "not finite" if loss is not None and not math.isfinite(loss) else loss,
        "best": best and dict(zip(("metric", "value", "step"), best, strict=True)),
    }  # fmt: skip


def _details(record: Record) -> dict[str, object]:
    confusion = record.confusion
    keys = ["loss", *record.metrics(), "lr", "samples_per_second", "memory"]
    return {
        "keys": [key for key in keys if key in record.rows.keys()],  # noqa: SIM118
        "curves": {
            split: _thinned(columns)
            for split, columns in record.rows.splits.items()
            if split in ("train", "validation")
        },
        "config": record.config,
        "confusion": confusion
        and {
            "classes": confusion.classes, "matrix": confusion.matrix.tolist(),
            "step": confusion.step, "data": confusion.data,
        },
        "samples": [path.name for path in record.samples],
        "problems": record.problems,
    }  # fmt: skip


def _thinned(columns: Columns) -> dict[str, Any]:
    """Each key's values, null where not finite; `has` says in which rows it is.

    Of many rows, groups of neighbours become one: its last place and the mean of its values.
    """
    group = max(1, -(-columns.count // MOST_POINTS))
    starts = np.arange(0, columns.count, group)
    ends = np.minimum(starts + group, columns.count) - 1
    thinned: dict[str, Any] = {"has": {}}
    for key in columns.keys():  # noqa: SIM118
        values, there = columns.column(key)
        if key in ("step", "epoch", "seconds"):
            thinned[key] = values[ends].tolist()
            continue
        with np.errstate(invalid="ignore", divide="ignore"):  # NaN and infinity stay what they are
            means = np.add.reduceat(values, starts) / np.add.reduceat(there.astype(float), starts)
        thinned[key] = means.tolist()
        thinned["has"][key] = np.logical_or.reduceat(there, starts).tolist()
    return thinned
