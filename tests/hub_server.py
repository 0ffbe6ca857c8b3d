"""A model hub on loopback, for tests: the parts of the hub's HTTP API with which `huggingface_hub` publishes and loads.

It keeps repositories in memory, with commits, branches, tags and pull requests; large files go through LFS. Xet, a
second storage protocol, is switched off in the client (`client_at`, `environment_of_another_machine`). Requests are
logged, and can be made to fail.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

LARGE = (".safetensors", ".bin", ".pt", ".pth", ".npz", ".parquet", ".gz")
"""Files of these kinds are kept in LFS whatever their size, as the hub's own .gitattributes says."""


def git_sha1(content: bytes) -> str:
    """The name of a file in git."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass(frozen=True)
class File:
    """One file of a commit; `sha256` only if it is in LFS."""

    oid: str
    size: int
    sha256: str | None = None

    @property
    def etag(self) -> str:
        """What the client checks and names the file after."""
        return self.sha256 or self.oid


@dataclass
class Repository:
    """A repository: `refs` gives the commit of each branch, tag and pull request; `commits` the files of each."""

    private: bool = False
    gated: bool = False
    refs: dict[str, str] = field(default_factory=dict)
    tags: set[str] = field(default_factory=set)
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)

    def resolve(self, revision: str) -> str | None:
        """The commit of a branch, a tag, or a commit's name or beginning of it."""
        if revision in self.refs:
            return self.refs[revision]
        return next((sha for sha in self.commits if len(revision) >= 7 and sha.startswith(revision)), None)

    def add(self, files: Mapping[str, File], title: str, ref: str, parent: str | None) -> str:
        """A commit with exactly these files, at the end of `ref`."""
        listed = json.dumps([parent, title, sorted((path, file.etag) for path, file in files.items())])
        sha = hashlib.sha1(listed.encode()).hexdigest()
        self.commits[sha], self.titles[sha], self.refs[ref] = dict(files), title, sha
        return sha


@dataclass
class Fault:
    """What the next requests get: a status each, or an answer that breaks off after `after` bytes of the body."""

    pattern: str
    statuses: list[int] = field(default_factory=list)
    after: int | None = None
    times: int = 1


@dataclass(frozen=True)
class Logged:
    """A request that was answered."""

    method: str
    path: str
    status: int
    headers: Message


class HubServer:
    """`with HubServer() as hub: …`: a hub at `hub.endpoint`.

    Attributes:
        repositories: name → `Repository`.
        blobs: Contents by git's name and by sha256.
        tokens: token → user. A user may read and write what is in its own name; requests without one of these
            see only public repositories.
        read_only: Tokens that may read and not write.
        log: The requests so far (`Logged`).
        watch: Called with each request when its answer is made, and before it is sent.
        page: Entries of a page of a tree.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.tokens: dict[str, str] = {"hf_owner": "owner"}
        self.read_only: set[str] = set()
        self.log: list[Logged] = []
        self.watch: Callable[[Logged], None] = lambda logged: None
        self.faults: list[Fault] = []
        self.page = 1000
        self.lock = threading.RLock()
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads, self._server.block_on_close = True, False
        port = self._server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{port}"
        self.store = f"http://localhost:{port}/store"  # another host than the hub's, as its large files have

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Refuse connections from now on."""
        self._server.shutdown()
        self._server.server_close()

    # For the test: contents and faults

    def create(self, name: str, files: Mapping[str, bytes | str] | Path | None = None, **settings: bool) -> str:
        """A repository with these files (a mapping, or all below a folder); its first commit. See `Repository`."""
        self.repositories[name] = repository = Repository(**settings)
        first = repository.add({".gitattributes": self.keep(".gitattributes", b"")}, "initial commit", "main", None)
        return first if files is None else self.commit(name, files)

    def commit(
        self,
        name: str,
        files: Mapping[str, bytes | str] | Path,
        *,
        under: str = "",
        branch: str = "main",
        title: str = "change",
        delete: Sequence[str] = (),
    ) -> str:
        """One more commit, with these files added below the folder `under`."""
        if isinstance(files, Path):
            files = {
                path.relative_to(files).as_posix(): path.read_bytes() for path in files.rglob("*") if path.is_file()
            }
        repository = self.repositories[name]
        parent = repository.refs[branch]
        new = {
            f"{under}/{path}".lstrip("/"): self.keep(path, text.encode() if isinstance(text, str) else text)
            for path, text in files.items()
        }
        kept = {path: file for path, file in repository.commits[parent].items() if path not in delete}
        return repository.add({**kept, **new}, title, branch, parent)

    def keep(self, path: str, content: bytes) -> File:
        """Store a content as the hub would for this path."""
        oid, sha256 = git_sha1(content), hashlib.sha256(content).hexdigest()
        large = path.endswith(LARGE) or len(content) > 10_000_000
        self.blobs[sha256 if large else oid] = content
        return File(oid, len(content), sha256 if large else None)

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        """path → content, of a revision."""
        repository = self.repositories[name]
        commit = repository.resolve(revision)
        assert commit is not None, f"{name} has no {revision}"
        return {path: self.blobs[file.etag] for path, file in repository.commits[commit].items()}

    def replace_content(self, name: str, path: str, content: bytes, revision: str = "main") -> None:
        """Serve another content under the old checksum, as a damaged store or a hand in the middle does."""
        repository = self.repositories[name]
        self.blobs[repository.commits[repository.refs[revision]][path].etag] = content

    def fail(self, pattern: str, *statuses: int) -> None:
        """The next requests whose "METHOD /path" matches the regular expression get these statuses, one each."""
        self.faults.append(Fault(pattern, list(statuses)))

    def cut(self, pattern: str, after: int, times: int = 1) -> None:
        """The next `times` answers to matching requests end after `after` bytes of the body, with the connection."""
        self.faults.append(Fault(pattern, after=after, times=times))

    def requests(self, pattern: str) -> list[Logged]:
        """The logged requests whose "METHOD /path" matches."""
        return [one for one in self.log if re.search(pattern, f"{one.method} {one.path}")]


class _Answer(Exception):  # noqa: N818 - not an error: what is answered
    """An answer that ends a request."""

    def __init__(
        self, status: int, body: Any = b"", code: str | None = None, message: str | None = None, **headers: str
    ):
        if code or message:
            body = body or {"error": message or code}
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.headers = {name.replace("_", "-"): text for name, text in headers.items()}
        self.headers |= {"X-Error-Code": code} if code else {}
        self.headers |= {"X-Error-Message": message} if message else {}


class _Handler(BaseHTTPRequestHandler):
    server_hub: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise most answers wait 40 ms for the client's confirmation

    ROUTES = (
        ("POST", r"/api/repos/create", "create"),
        ("GET", r"/api/whoami-v2", "whoami"),
        ("POST", r"/api/validate-yaml", "validate_card"),
        ("GET", r"/api/models/(?P<name>[^/]+/[^/]+)", "info"),
        ("GET", r"/api/models/(?P<name>[^/]+/[^/]+)/revision/(?P<revision>[^/]+)", "info"),
        ("GET", r"/api/models/(?P<name>[^/]+/[^/]+)/refs", "refs"),
        ("GET", r"/api/models/(?P<name>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)(?:/(?P<path>.*))?", "tree"),
        ("POST", r"/api/models/(?P<name>[^/]+/[^/]+)/paths-info/(?P<revision>[^/]+)", "paths_info"),
        ("POST", r"/api/models/(?P<name>[^/]+/[^/]+)/preupload/(?P<revision>[^/]+)", "preupload"),
        ("POST", r"/api/models/(?P<name>[^/]+/[^/]+)/commit/(?P<revision>[^/]+)", "add_commit"),
        ("POST", r"/api/models/(?P<name>[^/]+/[^/]+)/branch/(?P<branch>[^/]+)", "add_branch"),
        ("POST", r"/api/models/(?P<name>[^/]+/[^/]+)/tag/(?P<revision>[^/]+)", "add_tag"),
        ("POST", r"/(?P<name>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "lfs_batch"),
        ("PUT", r"/store/(?P<sha256>[0-9a-f]{64})", "lfs_put"),
        ("GET", r"/store/(?P<sha256>[0-9a-f]{64})", "lfs_get"),
        ("GET", r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "download"),
    )

    def do_GET(self) -> None:
        self._answer("GET")

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - `command` tells them apart

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on stderr: `HubServer.log` has it."""

    def _answer(self, _: str) -> None:
        address = urlsplit(self.path)
        self.query = {key: values[-1] for key, values in parse_qs(address.query).items()}
        self.content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        line = f"{self.command} {address.path}"
        with self.server_hub.lock:
            try:
                self._fault(line)
                raise self._route("GET" if self.command == "HEAD" else self.command, address.path)
            except _Answer as given:
                answer = given
            self.server_hub.log.append(Logged(self.command, address.path, answer.status, self.headers))
            self.server_hub.watch(self.server_hub.log[-1])
            cut = None if self.command == "HEAD" else self._cut(line)
        self.send_response(answer.status)
        for name, text in {"Content-Type": "application/json", **answer.headers}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", answer.headers.get("Content-Length", str(len(answer.body))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body if cut is None else answer.body[:cut])
        if cut is not None:
            self.close_connection = True

    def _fault(self, line: str) -> None:
        for fault in self.server_hub.faults:
            if fault.statuses and re.search(fault.pattern, line):
                status = fault.statuses.pop(0)
                raise _Answer(status, message={403: "Forbidden", 429: "Too many requests"}.get(status, "fault"))

    def _cut(self, line: str) -> int | None:
        for fault in self.server_hub.faults:
            if fault.after is not None and fault.times and re.search(fault.pattern, line):
                fault.times -= 1
                return fault.after
        return None

    def _route(self, method: str, path: str) -> _Answer:
        for verb, pattern, name in self.ROUTES:
            if verb == method and (match := re.fullmatch(pattern, path)):
                given = {key: unquote(text) for key, text in match.groupdict().items() if text is not None}
                return getattr(self, name)(**given)
        return _Answer(404, message=f"no such route: {method} {path}")

    # Who asks, and what is there

    def _user(self) -> str | None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in self.server_hub.tokens:
            raise _Answer(401, message="Invalid credentials in Authorization header")
        return self.server_hub.tokens.get(token)

    def _writer(self, owner: str) -> None:
        user, token = self._user(), (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if user is None:
            raise _Answer(401, message="Invalid username or password.")
        if user != owner or token in self.server_hub.read_only:
            raise _Answer(403, message=f"You don't have the rights to write under the namespace {owner}")

    def _repository(self, name: str, *, content: bool = False) -> Repository:
        user, repository = self._user(), self.server_hub.repositories.get(name)
        if repository is None or (repository.private and user != name.split("/", maxsplit=1)[0]):
            # As the hub: who is not logged in is not told whether a repository is private or not there
            raise _Answer(401 if user is None else 404, code="RepoNotFound", message="Repository not found")
        if content and repository.gated and user != name.split("/", maxsplit=1)[0]:
            raise _Answer(
                401 if user is None else 403, code="GatedRepo", message=f"Access to model {name} is restricted."
            )
        return repository

    def _commit(self, name: str, revision: str) -> tuple[str, dict[str, File]]:
        repository = self._repository(name)
        sha = repository.resolve(revision)
        if sha is None:
            raise _Answer(404, code="RevisionNotFound", message=f"Invalid rev id: {revision}")
        return sha, repository.commits[sha]

    # Reading

    def whoami(self) -> _Answer:
        user = self._user()
        if user is None:
            return _Answer(401, message="Invalid username or password.")
        return _Answer(200, {"type": "user", "name": user, "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def info(self, name: str, revision: str = "main") -> _Answer:
        sha, files = self._commit(name, revision)
        repository = self.server_hub.repositories[name]
        return _Answer(
            200,
            {
                "id": name,
                "modelId": name,
                "author": name.split("/", maxsplit=1)[0],
                "sha": sha,
                "private": repository.private,
                "gated": "manual" if repository.gated else False,
                "tags": [],
                "siblings": [{"rfilename": path} for path in files],
            },
        )

    def refs(self, name: str) -> _Answer:
        repository = self._repository(name)
        groups: dict[str, list[dict[str, str]]] = {"branches": [], "tags": [], "converts": [], "pullRequests": []}
        for ref, sha in repository.refs.items():
            group = "tags" if ref in repository.tags else "pullRequests" if ref.startswith("refs/pr/") else "branches"
            full = ref if ref.startswith("refs/") else f"refs/{'tags' if group == 'tags' else 'heads'}/{ref}"
            groups[group].append({"name": ref, "ref": full, "targetCommit": sha})
        return _Answer(200, groups)

    @staticmethod
    def _entry(path: str, file: File) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "oid": file.oid, "size": file.size, "path": path}
        if file.sha256:
            entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 134}
        return entry

    def tree(self, name: str, revision: str, path: str = "") -> _Answer:
        _, files = self._commit(name, revision)
        below = f"{path}/" if path else ""
        entries: dict[str, dict[str, Any]] = {}
        for each, file in sorted(files.items()):
            if not each.startswith(below):
                continue
            folders = each[len(below) :].split("/")[:-1]
            for depth in range(1, len(folders) + 1):
                folder = below + "/".join(folders[:depth])
                entries.setdefault(
                    folder, {"type": "directory", "oid": git_sha1(folder.encode()), "size": 0, "path": folder}
                )
            entries[each] = self._entry(each, file)
        if path and not entries:
            raise _Answer(404, code="EntryNotFound", message=f"{path} does not exist on {revision!r}")
        deep = self.query.get("recursive", "false").lower() == "true"
        listed = [entry for place, entry in entries.items() if deep or "/" not in place[len(below) :]]
        begin, end = int(self.query.get("cursor", 0)), int(self.query.get("cursor", 0)) + self.server_hub.page
        more = {}
        if end < len(listed):
            place = f"{self.server_hub.endpoint}{urlsplit(self.path).path}?recursive={deep}&cursor={end}"
            more = {"Link": f'<{place}>; rel="next"'}
        return _Answer(200, listed[begin:end], **more)

    def paths_info(self, name: str, revision: str) -> _Answer:
        _, files = self._commit(name, revision)
        if "json" in (self.headers.get("Content-Type") or ""):
            paths = json.loads(self.content)["paths"]
        else:
            paths = parse_qs(self.content.decode()).get("paths", [])
        found = [self._entry(path, files[path]) for path in paths if path in files]
        folders = [path for path in paths if any(each.startswith(f"{path}/") for each in files)]
        return _Answer(
            200,
            found
            + [{"type": "directory", "oid": git_sha1(path.encode()), "size": 0, "path": path} for path in folders],
        )

    def download(self, name: str, revision: str, path: str) -> _Answer:
        repository = self._repository(name, content=True)
        sha, files = self._commit(name, revision)
        assert repository.commits[sha] is files
        commit = {"X-Repo-Commit": sha}
        file = files.get(path)
        if file is None:
            answer = _Answer(404, code="EntryNotFound", message="Entry not found")
            answer.headers |= commit
            return answer
        if file.sha256:  # large files lie elsewhere
            linked = {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
            return _Answer(302, Location=f"{self.server_hub.store}/{file.sha256}", **commit, **linked)
        return self._content(file.etag, **commit)

    def lfs_get(self, sha256: str) -> _Answer:
        if sha256 not in self.server_hub.blobs:
            return _Answer(404)
        return self._content(sha256)

    def _content(self, etag: str, **headers: str) -> _Answer:
        content = self.server_hub.blobs[etag]
        headers |= {"ETag": f'"{etag}"', "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        if self.command == "HEAD":
            return _Answer(200, **headers, **{"Content-Length": str(len(content))})
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not span:
            return _Answer(200, content, **headers)
        begin, end = int(span[1]), int(span[2] or len(content) - 1)
        if begin >= len(content):
            return _Answer(416, **{"Content-Range": f"bytes */{len(content)}"})
        headers["Content-Range"] = f"bytes {begin}-{end}/{len(content)}"
        return _Answer(206, content[begin : end + 1], **headers)

    # Writing

    def create(self) -> _Answer:
        given = json.loads(self.content)
        owner = given.get("organization") or self._user()
        self._writer(owner)
        name = f"{owner}/{given['name']}"
        url = f"{self.server_hub.endpoint}/{name}"
        if name in self.server_hub.repositories:
            return _Answer(409, {"error": "You already created this model repo", "url": url})
        private = given.get("visibility", "public") == "private" or bool(given.get("private"))
        self.server_hub.create(name, private=private)
        return _Answer(200, {"url": url, "name": name, "id": name})

    def validate_card(self) -> _Answer:
        problem = _card_problem(json.loads(self.content)["content"])
        return (
            _Answer(400, {"errors": [{"message": problem}]})
            if problem
            else _Answer(200, {"errors": [], "warnings": []})
        )

    def _to_write(self, name: str) -> Repository:
        repository = self._repository(name)
        self._writer(name.split("/", maxsplit=1)[0])
        return repository

    def preupload(self, name: str, revision: str) -> _Answer:
        self._to_write(name)
        _, present = self._commit(name, revision)
        files = []
        for file in json.loads(self.content)["files"]:
            large = file["path"].endswith(LARGE) or file["size"] > 10_000_000
            entry = {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            if file["path"] in present:
                entry["oid"] = present[file["path"]].etag
            files.append(entry)
        return _Answer(200, {"files": files})

    def lfs_batch(self, name: str) -> _Answer:
        self._to_write(name)
        objects = []
        for each in json.loads(self.content)["objects"]:
            entry = {"oid": each["oid"], "size": each["size"]}
            if each["oid"] not in self.server_hub.blobs:
                entry["actions"] = {"upload": {"href": f"{self.server_hub.store}/{each['oid']}", "header": {}}}
            objects.append(entry)
        return _Answer(200, {"transfer": "basic", "objects": objects})

    def lfs_put(self, sha256: str) -> _Answer:
        if hashlib.sha256(self.content).hexdigest() != sha256:
            return _Answer(400, message="the content has another sha256")
        self.server_hub.blobs[sha256] = self.content
        return _Answer(200)

    def add_commit(self, name: str, revision: str) -> _Answer:
        repository = self._to_write(name)
        parent, present = self._commit(name, revision)
        files, title = dict(present), ""
        for line in self.content.decode().splitlines():
            item = json.loads(line)
            value, path = item["value"], item["value"].get("path", "")
            if item["key"] == "header":
                title = value["summary"]
                if value.get("parentCommit", parent) != parent:
                    return _Answer(412, message="A commit has happened since. Please refresh and try again.")
            elif item["key"] == "file":
                content = base64.b64decode(value["content"])
                if path == "README.md" and (problem := _card_problem(content.decode())):
                    return _Answer(400, {"error": problem})
                files[path] = File(git_sha1(content), len(content))
                self.server_hub.blobs[files[path].oid] = content
            elif item["key"] == "lfsFile":
                content = self.server_hub.blobs.get(value["oid"], b"")
                if hashlib.sha256(content).hexdigest() != value["oid"]:
                    return _Answer(400, message=f"{path}: the large file was not uploaded")
                files[path] = File(git_sha1(content), len(content), value["oid"])
            elif item["key"] == "deletedFile":
                if files.pop(path, None) is None:
                    return _Answer(404, code="EntryNotFound", message="A file with this name doesn't exist")
            elif item["key"] == "deletedFolder":
                files = {each: file for each, file in files.items() if not each.startswith(path.rstrip("/") + "/")}
        answer: dict[str, Any] = {}
        target = revision
        if self.query.get("create_pr") == "1":
            number = 1 + sum(ref.startswith("refs/pr/") for ref in repository.refs)
            target = f"refs/pr/{number}"
            answer["pullRequestUrl"] = f"{self.server_hub.endpoint}/{name}/discussions/{number}"
        elif revision not in repository.refs or revision in repository.tags:
            return _Answer(400, message="A commit goes to a branch")
        sha = repository.add(files, title, target, parent)
        return _Answer(
            200, {"commitUrl": f"{self.server_hub.endpoint}/{name}/commit/{sha}", "commitOid": sha, **answer}
        )

    def add_branch(self, name: str, branch: str) -> _Answer:
        repository = self._to_write(name)
        if branch in repository.refs:
            return _Answer(409, message=f"Reference already exists: {branch}")
        start = json.loads(self.content or b"{}").get("startingPoint", "main")
        repository.refs[branch] = self._commit(name, start)[0]
        return _Answer(200, {})

    def add_tag(self, name: str, revision: str) -> _Answer:
        repository, tag = self._to_write(name), json.loads(self.content)["tag"]
        if tag in repository.refs:
            return _Answer(409, message=f"Reference already exists: {tag}")
        repository.refs[tag] = self._commit(name, revision)[0]
        repository.tags.add(tag)
        return _Answer(200, {})


def _card_problem(text: str) -> str | None:
    """What the hub refuses of the metadata block of a card."""
    block = re.match(r"\s*---\r?\n(.*?)\r?\n---\s*(\n|$)", text, re.DOTALL)
    if not block:
        return None  # the hub only warns
    try:
        metadata = yaml.safe_load(block[1])
    except yaml.YAMLError as error:
        return f"YAML: {error}"
    if not isinstance(metadata, dict):
        return "the metadata must be a mapping"
    if not isinstance(metadata.get("license", ""), str):
        return '"license" must be a string'
    if metadata.get("base_model_relation", "adapter") not in {"finetune", "adapter", "merge", "quantized"}:
        return '"base_model_relation" must be one of [finetune, adapter, merge, quantized]'
    names = metadata.get("base_model", [])
    for name in [names] if isinstance(names, str) else names:
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
            return f'"base_model" with value {name!r} is not valid: use a model id from the hub'
    return None


@contextmanager
def client_at(
    endpoint: str, cache: Path, *, token: str | None = None, offline: bool = False, waits: bool = False
) -> Iterator[None]:
    """Point the `huggingface_hub` client of this process at a hub, with a cache and a login of its own.

    The client reads its settings (HF_ENDPOINT, HF_HOME, …) once, when it is imported; this puts others in their place
    for a while. Without `waits` it asks again at once where it would wait for some seconds.
    """
    from huggingface_hub import close_session, constants, file_download, hf_api  # noqa: PLC0415
    from huggingface_hub.utils import _http  # noqa: PLC0415
    from transformers.utils import hub as transformers_hub  # noqa: PLC0415

    settings = {
        "ENDPOINT": endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": offline,
        "HF_HOME": str(cache),
        "HF_HUB_CACHE": str(cache / "hub"),
        "HF_XET_CACHE": str(cache / "xet"),
        "HF_TOKEN_PATH": str(cache / "token"),
        "HF_STORED_TOKENS_PATH": str(cache / "stored_tokens"),
        "HF_HUB_DISABLE_XET": True,
    }
    environment = {key: text for key, text in os.environ.items() if key not in {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}}
    environment |= {"HF_TOKEN": token} if token else {}
    impatient = SimpleNamespace(**{**vars(_http.time), "sleep": lambda seconds: None})
    with mock.patch.multiple(constants, **settings), mock.patch.dict(os.environ, environment, clear=True):
        patches = [
            mock.patch.object(hf_api.api, "endpoint", endpoint),
            mock.patch.object(transformers_hub, "_hf_api", None),
        ]
        if not waits:
            patches += [mock.patch.object(module, "time", impatient) for module in (_http, file_download)]
        for patch in patches:
            patch.start()
        try:
            yield
        finally:
            for patch in patches:
                patch.stop()
            close_session()


def environment_of_another_machine(
    endpoint: str, home: Path, *, token: str | None = None, offline: bool = False
) -> dict[str, str]:
    """The environment of a process that has its own home and cache, and reaches this hub."""
    left = {
        key: text for key, text in os.environ.items() if not key.startswith(("HF_", "HUGGING_FACE_", "TRANSFORMERS_"))
    }
    given = {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "HF_HOME": str(home / "hf"),
        "HF_ENDPOINT": endpoint,
        "HF_HUB_OFFLINE": str(int(offline)),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    return {**left, **given, **({"HF_TOKEN": token} if token else {})}
