"""A running app, and requests to it over HTTP, past every check that the page or gradio_client would make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

from tests.app.load_app import started
from tests.trust.corpus_clips import whole
from tests.trust.corpus_pictures import WHOLE as PICTURES

PHOTO, CLIP = "PHOTO", "CLIP"  # stand for uploads
DEFAULTS = {
    "segment_image": [None, None],
    "segment_everything": [None, 4, None, None],
    "track_video": [None, None, "overlay", ["masks"], 0, None, 1],
}


class AttackedApp:
    """A running app whose log is kept."""

    def __init__(self, temporary: Path) -> None:
        self.process, self.address, self.log = started(TMPDIR=str(temporary), OMP_NUM_THREADS="1")
        self.web = httpx.Client(timeout=60, limits=httpx.Limits(max_keepalive_connections=0))
        self.config = self.web.get(f"{self.address}/config").json()
        self.files = {
            PHOTO: self.upload("photo.png", PICTURES["png"]),
            CLIP: self.upload("clip.mp4", whole("mp4")),
        }

    def upload(self, name: str, content: bytes) -> str:
        """Where an upload lies."""
        reply = self.web.post(f"{self.address}/gradio_api/upload", files={"files": (name, content)})
        reply.raise_for_status()
        return reply.json()[0]

    def file(self, name: str) -> dict[str, Any]:
        """What a client sends in place of a file."""
        return {"path": self.files.get(name, name), "meta": {"_type": "gradio.FileData"}}

    def ask(self, endpoint: str, *data: Any) -> tuple[bool, str]:
        """Call an endpoint; whether it answered, and what."""
        rest = DEFAULTS.get(endpoint, [])[len(data) :] if len(data) > 1 else []
        sent = json.dumps({"data": [*data, *rest]})  # NaN and numbers of 400 digits, too
        headers = {"Content-Type": "application/json"}
        reply = self.web.post(f"{self.address}/gradio_api/call/{endpoint}", content=sent, headers=headers)
        if reply.status_code != 200:
            return False, reply.text
        answer = self.web.get(f"{self.address}/gradio_api/call/{endpoint}/{reply.json()['event_id']}").text
        return "event: complete" in answer, answer

    def touch(self, name: str, sent: Any, session: str = "nobody") -> httpx.Response:
        """A gesture on a click surface."""
        component = next(c["id"] for c in self.config["components"] if c["props"].get("elem_id") == name)
        body = {"data": sent, "component_id": component, "fn_name": "ask_server", "session_hash": session}
        headers = {"Content-Type": "application/json"}
        return self.web.post(f"{self.address}/gradio_api/component_server", content=json.dumps(body), headers=headers)

    def event(self, session: str, name: str, data: list[Any], sent: Any = None) -> str:
        """An event of the page, as its JavaScript sends it; what came back.

        Args:
            session: of the page.
            name: of the endpoint, or "keep" or "claim" of the component that holds the token.
            data: the inputs.
            sent: what the event brings.
        """
        index = next(
            d["id"]
            for d in self.config["dependencies"]
            if d["api_name"] == name or any(target[1] == name for target in d["targets"])
        )
        body = {"fn_index": index, "data": data, "event_data": sent, "session_hash": session, "trigger_id": None}
        headers = {"Content-Type": "application/json"}
        reply = self.web.post(f"{self.address}/gradio_api/queue/join", content=json.dumps(body), headers=headers)
        if reply.status_code != 200:
            return reply.text
        lines = []
        with self.web.stream("GET", f"{self.address}/gradio_api/queue/data?session_hash={session}") as stream:
            for line in stream.iter_lines():
                lines.append(line)
                if "process_completed" in line:
                    break
        return "\n".join(lines)

    def close(self) -> None:
        """Stop it."""
        self.web.close()
        self.process.terminate()
        self.process.wait(20)
