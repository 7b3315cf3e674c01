"""As much of a wandb server as a run needs, on a local port; it can freeze or die."""

from __future__ import annotations

import gzip
import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0" * 40
ENTITY = "someone"


class WandbServer:
    """Records what runs send: rows by run id, files by path.

    Attributes:
        rows: history rows by run id, in order of arrival.
        summaries: the last summary by run id.
        runs: what ``UpsertBucket`` said of a run, by id.
        files: names of uploaded files.
        operations: names of queries.
    """

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.summaries: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.files: set[str] = set()
        self.operations: list[str] = []
        self.thaw = threading.Event()
        self.thaw.set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None: ...

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") == "chunked":
                    parts = []
                    while size := int(self.rfile.readline(), 16):
                        parts.append(self.rfile.read(size))
                        self.rfile.readline()
                    self.rfile.readline()
                    body = b"".join(parts)
                else:
                    body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                zipped = self.headers.get("Content-Encoding") == "gzip"
                return gzip.decompress(body) if zipped else body

            def _answer(self) -> None:
                body = self._body()
                server.thaw.wait()
                answer = json.dumps(server.answer(self.path, body)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                with suppress(ConnectionError):  # who asked did not wait
                    self.wfile.write(answer)

            do_GET = do_POST = do_PUT = _answer  # noqa: N815

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def freeze(self) -> None:
        """Take connections and answer nothing from now on."""
        self.thaw.clear()

    def close(self) -> None:
        """Refuse connections."""
        self._http.shutdown()
        self._http.server_close()
        self.thaw.set()

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        """What the server says to a request."""
        if path == "/graphql":
            return {"data": self._graphql(json.loads(body))}
        if path.startswith("/files/"):
            self._stream(path.split("/")[4], json.loads(body))
        elif path.startswith("/upload/"):
            self.files.add(path.removeprefix("/upload/").partition("?")[0])
        return {}

    def _graphql(self, request: dict[str, Any]) -> dict[str, Any]:
        query, values = request["query"], request.get("variables") or {}
        name = query.split("(")[0].split("{")[0].split()[-1]
        self.operations.append(name)
        if name == "UpsertBucket":
            return {"upsertBucket": {"bucket": self._run(values), "inserted": True}}
        if "CreateRunFiles" in query:
            names = values.get("files") or []
            links = [{"name": n, "uploadUrl": f"{self.url}/upload/{n}"} for n in names]
            run = {"runID": values.get("run", ""), "uploadHeaders": [], "files": links}
            return {"createRunFiles": run}
        if name == "CreateArtifact":
            sequence = {"id": "s", "name": "s", "latestArtifact": None}
            state = {"id": "a", "state": "COMMITTED", "artifactSequence": sequence}
            return {"createArtifact": {"artifact": state}}
        teams = {"edges": [{"node": {"name": ENTITY}}]}
        viewer = {"id": "1", "entity": ENTITY, "username": ENTITY, "flags": "{}", "teams": teams}
        return {
            "viewer": viewer,
            "serverInfo": {"features": [], "cliVersionInfo": {}, "latestLocalVersionInfo": None},
            "model": None, "project": None,
        }  # fmt: skip

    def _run(self, values: dict[str, Any]) -> dict[str, Any]:
        """Record a run and describe it as the server does."""
        name = values.get("name") or values.get("id") or "run"
        self.runs.setdefault(name, {}).update({k: v for k, v in values.items() if v is not None})
        project = {
            "id": "p", "name": values.get("project") or "slotreel",
            "entity": {"id": "e", "name": ENTITY},
        }  # fmt: skip
        return {
            "id": name, "name": name, "displayName": values.get("displayName") or name,
            "description": None, "config": values.get("config") or "{}", "sweepName": None,
            "project": project, "historyLineCount": 0,
        }  # fmt: skip

    def _stream(self, run: str, content: dict[str, Any]) -> None:
        files = content.get("files") or {}
        lines = files.get("wandb-history.jsonl", {}).get("content", [])
        self.rows.setdefault(run, []).extend(json.loads(line) for line in lines)
        for line in files.get("wandb-summary.json", {}).get("content", []):
            self.summaries[run] = json.loads(line)
