"""A Hugging Face Hub of one's own, on this machine: serves and takes files as the real one does, or misbehaves."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class LoopbackHub:
    """Serves `repos[repo_id][file name] = bytes` on 127.0.0.1:port.

    What is uploaded lands there too. `trouble` may be "500", "cut off" (half of each file), "silence" (never an
    answer), "slow" (a file takes seconds) or "read only" (nobody may upload).
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.repos: dict[str, dict[str, bytes]] = {}
        self.trouble = ""
        self.requests: list[str] = []
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> LoopbackHub:
        hub = self

        class Handler(_Handler):
            owner = hub

        ThreadingHTTPServer.allow_reuse_address = True
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Handler(BaseHTTPRequestHandler):
    owner: LoopbackHub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        hub = self.owner
        hub.requests.append(f"{self.command} {self.path}")
        if hub.trouble == "silence":
            time.sleep(60)
            return
        if hub.trouble == "500":
            self._reply(500, b"broken", with_body)
            return
        path = self.path.split("?")[0]
        if path.startswith("/api/models/"):
            repo, name = re.split("/tree|/revision", path.removeprefix("/api/models/"))[0], None
        else:
            repo, _, rest = path.strip("/").partition("/resolve/")
            name = rest.partition("/")[2]
        files = hub.repos.get(repo)
        if files is None:
            self._reply(404, b"{}", with_body, {"X-Error-Code": "RepoNotFound"})
        elif name is None:
            listed = [{"type": "file", "path": n, "size": len(c), "oid": "0" * 40} for n, c in files.items()]
            self._reply(200, json.dumps(listed).encode(), with_body)
        else:
            commit = {"X-Repo-Commit": hashlib.sha1(b"".join(files.values())).hexdigest()}
            if name not in files:
                self._reply(404, b"", with_body, {"X-Error-Code": "EntryNotFound", **commit})
            else:
                tag = {"ETag": f'"{hashlib.sha256(files[name]).hexdigest()}"', **commit}
                self._reply(200, files[name], with_body, tag, cut=hub.trouble == "cut off")

    def do_POST(self) -> None:
        """Uploads: make a repo, say that all files come inside the commit, take the commit."""
        hub = self.owner
        hub.requests.append(f"POST {self.path}")
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if hub.trouble == "read only":
            self._reply(403, b"{}", True)
            return
        path = self.path.split("?")[0]
        repo = "/".join(path.removeprefix("/api/models/").split("/")[:2])
        answer: dict[str, Any] = {}
        if path == "/api/repos/create":
            body = json.loads(sent)
            repo = f"{body['organization']}/{body['name']}" if body.get("organization") else body["name"]
            hub.repos.setdefault(repo, {})
            answer = {"url": f"http://127.0.0.1:{hub.port}/{repo}"}
        elif "/preupload/" in path:
            names = [file["path"] for file in json.loads(sent)["files"]]
            answer = {"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]}
        elif "/commit/" in path:
            lines = [json.loads(line) for line in sent.splitlines()]
            for file in (line["value"] for line in lines if line["key"] == "file"):
                hub.repos[repo][file["path"]] = base64.b64decode(file["content"])
            answer = {"commitUrl": f"http://127.0.0.1:{hub.port}/{repo}/commit/{'0' * 40}", "commitOid": "0" * 40}
        self._reply(200, json.dumps(answer).encode(), True)

    def _reply(
        self, status: int, content: bytes, with_body: bool, headers: dict[str, str] | None = None, *, cut: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            if self.owner.trouble == "slow":
                for start in range(0, len(content), step := max(1, len(content) // 20)):
                    self.wfile.write(content[start : start + step])
                    time.sleep(0.05)
                return
            self.wfile.write(content[: len(content) // 2] if cut else content)
            if cut:
                self.close_connection = True
