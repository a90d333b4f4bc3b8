"""A hub of one data set, spoken to over HTTP by the real client libraries."""

import hashlib
import json
import re
from pathlib import Path
from urllib.parse import parse_qs


class Hub:
    """What the hub answers about a data set of any name: its files at one commit, or a refusal."""

    commit = "0123456789abcdef0123456789abcdef01234567"

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.refusal: tuple[int, str] | None = None
        self.revisions_asked: set[str] = set()

    def serve(self, folder: Path) -> None:
        """Publish a folder's files."""
        self.files = {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}

    def answer(self, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content."""
        if self.refusal:
            return self.refusal[0], {"X-Error-Code": self.refusal[1]}, b""
        if asked := re.search(r"/(?:revision|resolve|tree|paths-info)/([^/]+)", path):
            self.revisions_asked.add(asked[1])
        if file := re.fullmatch(r"/datasets/[^/]+/[^/]+/resolve/[^/]+/(.+)", path):
            if file[1] not in self.files:
                return 404, {"X-Error-Code": "EntryNotFound"}, b""
            return 200, {"ETag": self._entry(file[1])["oid"], "X-Repo-Commit": self.commit}, self.files[file[1]]
        if folder := re.search(r"/tree/[^/]+/?(.*)", path):
            inside = f"{folder[1]}/" if folder[1] else ""
            children = sorted({inside + f[len(inside) :].split("/")[0] for f in self.files if f.startswith(inside)})
            reply: object = [self._entry(child) for child in children]
        elif "/paths-info/" in path:
            reply = [self._entry(name) for name in parse_qs(body.decode()).get("paths", [])]
        else:
            reply = {"id": "/".join(path.split("/")[3:5]), "sha": self.commit, "siblings": []}
        return 200, {"Content-Type": "application/json"}, json.dumps(reply).encode()

    def _entry(self, name: str) -> dict[str, str | int]:
        content = self.files.get(name)
        if content is None:
            return {"type": "directory", "path": name, "oid": "0" * 40}
        return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
