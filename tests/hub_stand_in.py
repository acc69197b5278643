"""A stand-in of the Hub's HTTP interface on loopback: files, their headers, and the commit API.

What it does as the Hub does: large files go to a store by hash before a commit names them, in parts if they
are large enough, and are asked for once; a commit is on one parent or refused, and is all or nothing; a
branch is a name for a commit; a pull request is a commit beside its branch; writing needs a token. What it
leaves out: Xet, spaces, data sets, comments.
Source: https://github.com/huggingface/huggingface_hub/blob/v0.36.2/src/huggingface_hub/_commit_api.py
Source: https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
# Whoever has it may write; no output may show it.
TOKEN = "hf_plantedPlantedPlantedPlantedPlanted"
READ_TOKEN = "hf_readonlyReadonlyReadonlyReadonlyReado"
_LFS = ("*.onnx", "*.bin", "*.safetensors")
_PART_BYTES = 40


@dataclass
class Repository:
    """A repository of one model: commits, the branches that name them, pull requests, large files."""

    name: str
    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str]
    titles: dict[str, str] = field(default_factory=dict)  # of commits
    requests: list[dict[str, str]] = field(default_factory=list)
    store: dict[str, bytes] = field(default_factory=dict)
    parts: dict[tuple[str, int], bytes] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """Return the files of a branch or commit."""
        return self.commits[self.branches.get(revision, revision)]

    def commit(self, parent: str, files: dict[str, bytes], title: str) -> str:
        """Add a commit and give its hash."""
        text = repr(
            [
                parent,
                title,
                sorted((path, hashlib.sha256(content).hexdigest()) for path, content in files.items()),
            ]
        )
        sha = hashlib.sha1(text.encode()).hexdigest()
        self.commits[sha], self.titles[sha] = files, title
        return sha


@dataclass(frozen=True)
class Hub:
    """Where the stand-in listens, the commit it began with, and what it holds."""

    url: str
    commit: str
    repository: Repository


def hub_settings(url: str, cache: str) -> dict[str, object]:
    """Return the values by which huggingface_hub, whose names were set on import, asks the stand-in."""
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    return {
        "huggingface_hub.constants.ENDPOINT": url,
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE": template,
        "huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE": template,
        "huggingface_hub.constants.HF_HUB_OFFLINE": False,
        "huggingface_hub.constants.HF_HUB_CACHE": cache,
    }


class _Refused(Exception):
    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        self.status, self.headers = status, {"X-Error-Code": code} if code else {}
        if message:
            self.headers["X-Error-Message"] = message


@contextmanager
def serve(folder: Path | None, repo_id: str) -> Iterator[Hub]:
    """Serve a folder as the repository `repo_id` at one commit, beside a pickle nobody should ask for.

    Without a folder the repository is as a new one is: a branch with a .gitattributes.
    """
    files = {".gitattributes": b"*.onnx filter=lfs diff=lfs merge=lfs -text\n"}
    if folder:
        paths = [path for path in folder.rglob("*") if path.is_file()]
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths} | {
            "pytorch_model.bin": b"pickle"
        }
    repository = Repository(repo_id, {COMMIT: files}, {"main": COMMIT})

    class Handler(_Handler):
        repo = repository

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield Hub(f"http://127.0.0.1:{server.server_port}", COMMIT, repository)
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    repo: Repository
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        try:
            with self.repo.lock:
                status, headers, content = self._route(unquote(url.path), parse_qs(url.query), body)
        except _Refused as refused:
            status, headers, content = refused.status, refused.headers, b"{}"
        self.send_response(status)
        for key, value in {
            "Content-Type": "application/json",
            **headers,
            "Content-Length": str(len(content)),
        }.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = _answer  # noqa: N815

    def _route(  # noqa: C901, PLR0911 - the Hub's routes
        self, path: str, query: dict[str, list[str]], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        api, name = "/api/models/", self.repo.name
        if path == "/api/validate-yaml":
            return _json({"errors": [], "warnings": []})
        if path.startswith("/store/"):
            return self._store(path, body)
        if path == f"/{name}.git/info/lfs/objects/batch":
            self._may_write()
            return self._batch(json.loads(body))
        if path.startswith(f"/{name}/resolve/"):
            return self._resolve(path.removeprefix(f"/{name}/resolve/"))
        if path != api + name and not path.startswith(f"{api}{name}/"):
            raise _Refused(404, "RepoNotFound")
        verb, _, rest = path.removeprefix(api + name).strip("/").partition("/")
        match verb:
            case "" | "revision":
                return self._info(rest or "main", with_blobs="blobs" in query)
            case "preupload":
                self._may_write()
                return self._preupload(rest, json.loads(body))
            case "commit":
                self._may_write()
                return self._commit(
                    rest, [json.loads(line) for line in body.splitlines()], request="create_pr" in query
                )
            case "branch":
                self._may_write()
                if rest in self.repo.branches:
                    raise _Refused(409)
                self.repo.branches[rest] = self._sha(json.loads(body or b"{}").get("startingPoint", "main"))
                return _json({})
            case "discussions":
                return _json(
                    {"discussions": self.repo.requests, "count": len(self.repo.requests), "start": 0}
                )
        raise _Refused(404)

    def _may_write(self) -> None:
        """Refuse as the Hub does, and quote the token, as a careless server might."""
        given = self.headers.get("Authorization", "")
        if given != f"Bearer {TOKEN}":
            raise _Refused(403 if given == f"Bearer {READ_TOKEN}" else 401, message=f"may not write: {given}")

    def _sha(self, revision: str) -> str:
        sha = self.repo.branches.get(revision, revision)
        if sha not in self.repo.commits:
            raise _Refused(404, "RevisionNotFound")
        return sha

    def _info(self, revision: str, *, with_blobs: bool) -> tuple[int, dict[str, str], bytes]:
        sha = self._sha(revision)
        siblings: list[dict[str, object]] = [{"rfilename": path} for path in self.repo.files(sha)]
        if with_blobs:
            for sibling, (path, content) in zip(siblings, self.repo.files(sha).items(), strict=True):
                large = _is_large(path, content)
                sibling |= {
                    "size": len(content),
                    "blobId": _git_hash(_pointer(content) if large else content),
                }
                if large:
                    sha256 = hashlib.sha256(content).hexdigest()
                    sibling["lfs"] = {
                        "sha256": sha256,
                        "size": len(content),
                        "pointerSize": len(_pointer(content)),
                    }
        return _json({"id": self.repo.name, "sha": sha, "siblings": siblings})

    def _resolve(self, rest: str) -> tuple[int, dict[str, str], bytes]:
        revision, _, path = rest.partition("/")
        sha = self._sha(revision)
        if path not in self.repo.files(sha):
            raise _Refused(404, "EntryNotFound")
        content = self.repo.files(sha)[path]
        return 200, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": sha}, content

    def _preupload(
        self, revision: str, asked: dict[str, list[dict[str, object]]]
    ) -> tuple[int, dict[str, str], bytes]:
        there = self.repo.files(self._sha(revision))
        answers = []
        for wanted in asked["files"]:
            path = str(wanted["path"])
            large = any(fnmatch(path, pattern) for pattern in _LFS)
            oid = _oid(path, there[path]) if path in there else None
            answers.append(
                {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid}
            )
        return _json({"files": answers})

    def _batch(self, asked: dict[str, list[dict[str, object]]]) -> tuple[int, dict[str, str], bytes]:
        base = f"http://{self.headers['Host']}/store"
        objects = []
        for wanted in asked["objects"]:
            oid, size = str(wanted["oid"]), int(str(wanted["size"]))
            answer: dict[str, object] = {"oid": oid, "size": size}
            if oid not in self.repo.store:
                upload: dict[str, object] = {"href": f"{base}/whole/{oid}"}
                if size > _PART_BYTES:
                    urls = {str(i + 1): f"{base}/part/{oid}/{i + 1}" for i in range(-(-size // _PART_BYTES))}
                    upload = {
                        "href": f"{base}/join/{oid}",
                        "header": {"chunk_size": str(_PART_BYTES), **urls},
                    }
                answer["actions"] = {"upload": upload}
            objects.append(answer)
        return _json({"transfer": "basic", "objects": objects})

    def _store(self, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Take a large file: the address is what authorizes, as with the Hub's signed addresses."""
        _, _, how, oid, *part = path.split("/")
        match how:
            case "part":
                self.repo.parts[oid, int(part[0])] = body
                return 200, {"ETag": f'"{hashlib.md5(body).hexdigest()}"'}, b""
            case "join":
                body = b"".join(self.repo.parts[oid, one["partNumber"]] for one in json.loads(body)["parts"])
        if hashlib.sha256(body).hexdigest() != oid:
            raise _Refused(400)
        self.repo.store[oid] = body
        return _json({})

    def _commit(
        self, branch: str, lines: list[dict[str, dict[str, str]]], *, request: bool
    ) -> tuple[int, dict[str, str], bytes]:
        repo, header = self.repo, lines[0]["value"]
        head = self._sha(branch)
        if header.get("parentCommit", head) != head and not request:
            raise _Refused(412)
        parent = header.get("parentCommit", head)
        files = dict(repo.files(parent))
        for line in lines[1:]:
            value = line["value"]
            match line["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile" if value["oid"] in repo.store:
                    files[value["path"]] = repo.store[value["oid"]]
                case "deletedFile" if value["path"] in files:
                    del files[value["path"]]
                case _:
                    raise _Refused(400)
        sha = repo.commit(parent, files, header["summary"])
        number = len(repo.requests) + 1
        if request:
            repo.branches[f"refs/pr/{number}"] = sha
            repo.requests.append(_discussion(repo.name, number, header["summary"]))
        else:
            repo.branches[branch] = sha
        base = f"http://{self.headers['Host']}/{repo.name}"
        urls = {
            "commitUrl": f"{base}/commit/{sha}",
            "pullRequestUrl": f"{base}/discussions/{number}" if request else None,
        }
        return _json({"success": True, "commitOid": sha, **urls})

    def handle_one_request(self) -> None:
        with suppress(ConnectionError):
            super().handle_one_request()

    def log_message(self, *_: object) -> None:
        pass


def _json(content: object) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, json.dumps(content).encode()


def _is_large(path: str, content: bytes) -> bool:
    return bool(content) and any(fnmatch(path, pattern) for pattern in _LFS)


def _pointer(content: bytes) -> bytes:
    """Write what git holds of a large file."""
    oid = hashlib.sha256(content).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n".encode()


def _oid(path: str, content: bytes) -> str:
    """Hash a file as git does, or, as the Hub answers for a large one, its content."""
    if _is_large(path, content):
        return hashlib.sha256(content).hexdigest()
    return _git_hash(content)


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _discussion(repo: str, number: int, title: str) -> dict[str, object]:
    return {
        "title": title,
        "num": number,
        "author": {"name": "somebody"},
        "createdAt": "2026-01-01T00:00:00.000Z",
        "status": "open",
        "repo": {"name": repo, "type": "model"},
        "isPullRequest": True,
    }
