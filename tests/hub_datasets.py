"""The hub's API for repositories of data, as `tests/hub_server.py` serves it: commits, files at a
commit, and the way that a commit is made."""

import base64
import hashlib
import json
from urllib.parse import unquote


class Repository:
    """Commits by their number, the newest last, each with its files."""

    def __init__(self):
        self.commits = {}
        self.is_private = False

    def commit(self, files):
        """Add a commit with these files alone; returns its number."""
        lines = "".join(f"{name}{hashlib.sha1(files[name]).hexdigest()}" for name in sorted(files))
        sha = hashlib.sha1(f"{len(self.commits)}{lines}".encode()).hexdigest()
        self.commits[sha] = dict(files)
        return sha

    @property
    def newest(self):
        return next(reversed(self.commits), "0" * 40)

    def sha_of(self, revision):
        """The commit of a revision; None where there is none."""
        named = self.newest if revision == "main" else revision
        return named if named in self.commits or not self.commits else None


class DatasetRoutes:
    """Answers of a request handler, which has `say` and `server.hub`."""

    def answer_datasets(self, path, body, token, with_body):
        """Answer a request of the API of data; False where it is none."""
        hub = self.server.hub
        if path == "/api/repos/create":
            told = json.loads(body)
            name = f"{told['organization']}/{told['name']}"
            is_new = name not in hub.datasets
            repository = hub.datasets.setdefault(name, Repository())
            if is_new:
                repository.is_private = told.get("visibility") == "private"
            answer = {"url": f"{hub.url}/datasets/{name}"}
            self._tell(answer, 200 if is_new else 409)
        elif path == "/api/validate-yaml":
            self._tell({"errors": [], "warnings": []})
        elif path.startswith(("/api/datasets/", "/datasets/")):
            self._answer_repository(
                path.removeprefix("/api").removeprefix("/datasets/"), body, token, with_body
            )
        else:
            return False
        return True

    def put_object(self, path, body):
        """The store takes a large file by its SHA-256."""
        oid = path.rsplit("/", 1)[-1]
        if self.server.hub.is_full:
            return self._say(403, {})
        assert hashlib.sha256(body).hexdigest() == oid
        self.server.hub.objects[oid] = body
        return self._say(200, {})

    def _answer_repository(self, rest, body, token, with_body):
        hub = self.server.hub
        name = "/".join(rest.split("/")[:2]).removesuffix(".git")
        words = rest[len(name) :].removeprefix(".git").strip("/").split("/")
        repository = hub.datasets.get(name)
        if repository is None:
            return self._refuse(401, "RepoNotFound", "Repository not found")
        if name in hub.gated and token not in hub.tokens and words[0] != "revision":
            return self._refuse(
                403 if token else 401, "GatedRepo", f"Access to {name} is restricted"
            )
        if words[0] == "info":
            return self._lfs_batch(json.loads(body))
        revision = unquote(words[1]) if len(words) > 1 else "main"
        sha = repository.sha_of(revision)
        if sha is None:
            return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return self._answer_at(name, repository, sha, words, body, with_body)

    def _answer_at(self, name, repository, sha, words, body, with_body):
        files = repository.commits.get(sha, {})
        match words[0]:
            case "" | "revision":
                siblings = [sibling(each, files[each]) for each in sorted(files)]
                return self._tell({"id": name, "sha": sha, "siblings": siblings})
            case "tree":
                return self._tell([entry(each, files[each]) for each in sorted(files)])
            case "preupload":
                asked = json.loads(body)["files"]
                return self._tell({"files": [mode(each, files) for each in asked]})
            case "paths-info":
                return self._tell([])
            case "commit":
                return self._commit(name, repository, files, body)
            case "resolve":
                return self._file(name, sha, files, unquote("/".join(words[2:])), with_body)
        return self._refuse(404, "EntryNotFound", f"{words} is nothing")

    def _lfs_batch(self, asked):
        hub = self.server.hub
        objects = []
        for each in asked["objects"]:
            action = {"upload": {"href": f"{hub.store}/objects/{each['oid']}"}}
            objects.append({**each, "actions": action})
        self._tell({"transfer": "basic", "objects": objects})

    def _commit(self, name, repository, files, body):
        changed = dict(files)
        for line in body.splitlines():
            told = json.loads(line)
            value = told["value"]
            match told["key"]:
                case "file":
                    changed[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    changed[value["path"]] = self.server.hub.objects[value["oid"]]
                case "deletedFile":
                    del changed[value["path"]]
        sha = repository.commit(changed)
        self._tell(
            {"commitOid": sha, "commitUrl": f"{self.server.hub.url}/datasets/{name}/commit/{sha}"}
        )

    def _file(self, name, sha, files, path, with_body):
        if path not in files:
            return self._refuse(404, "EntryNotFound", f"{path} is not there")
        content = files[path]
        headers = {"X-Repo-Commit": sha, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        if path in self.server.hub.damaged:
            content = content[:-1] + b"?"
        return self._say(200, headers, content if with_body else b"", len(content))

    def _tell(self, value, status=200):
        self._say(status, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def _refuse(self, status, code, message):
        self._say(status, {"X-Error-Code": code, "X-Error-Message": message})


def is_large(path):
    return path.endswith((".parquet", ".gz"))


def blob(content):
    """As git names it."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sibling(path, content):
    """A file as the description of a repository tells it."""
    told = {"rfilename": path, "size": len(content), "blobId": blob(content)}
    lfs = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "pointerSize": 130}
    return {**told, "lfs": lfs} if is_large(path) else told


def entry(path, content):
    """A file as a listing tells it."""
    told = {"type": "file", "path": path, "size": len(content), "oid": blob(content)}
    lfs = {"size": len(content), "oid": hashlib.sha256(content).hexdigest(), "pointerSize": 130}
    return {**told, "lfs": lfs} if is_large(path) else told


def mode(asked, files):
    """How a file is to be sent."""
    path = asked["path"]
    there = files.get(path)
    told = {"path": path, "uploadMode": "lfs" if is_large(path) else "regular"}
    oid = None if there is None or is_large(path) else blob(there)
    return {**told, "shouldIgnore": False, "oid": oid}
