import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from seaway.config import load
from seaway.errors import SeawayError
from seaway.storage import LIST, Absent, Storage
from tests.seaway.s3_server import BUCKET, REGION, s3_server


@pytest.fixture(scope="module")
def s3():
    with s3_server() as url:
        yield url


@pytest.fixture(params=["file", "s3"])
def store(request, tmp_path) -> Storage:
    if request.param == "file":
        return Storage((tmp_path / "a bucket").as_uri())
    url = request.getfixturevalue("s3")
    return Storage(f"s3://{BUCKET}/{tmp_path.name}", url, REGION)


def folder_of(path: Path, **files: str) -> Path:
    for name, text in files.items():
        (file := path / name.replace("__", "/").replace("_dot_", ".")).parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return path


def files_of(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_an_object_is_written_and_read(store):
    uri = store.join("some", "object.json")
    assert not store.exists(uri)
    store.write(uri, b"one")
    store.write(uri, b"two")
    assert store.read(uri) == b"two" and store.exists(uri)


def test_a_new_object_is_not_written_over(store):
    uri = store.join("new")
    store.write(uri, b"first", new=True)
    with pytest.raises(SeawayError, match="there already"):
        store.write(uri, b"second", new=True)
    assert store.read(uri) == b"first"


def test_what_is_absent_says_so(store):
    with pytest.raises(Absent, match="nothing does not exist"):
        store.read(store.join("nothing"))
    with pytest.raises(Absent, match="no published folder"):
        store.fetch(store.join("nothing"), Path("unused"))
    assert store.find(store.join("nothing")) == []
    store.remove(store.join("nothing"))


def test_a_large_file_goes_up_and_down_in_blocks(store, tmp_path):
    big = tmp_path / "big"
    big.write_bytes(os.urandom(1 << 20) * 13)
    store.upload(big, store.join("big"))
    store.download(store.join("big"), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == big.read_bytes()
    assert [(f.uri, f.size) for f in store.find(store.uri)] == [(store.join("big"), 13 << 20)]


def test_a_file_is_brought_whole_or_stays_as_it_was(store, tmp_path):
    file = tmp_path / "kept"
    file.write_bytes(b"good")
    with pytest.raises(Absent):
        store.download(store.join("nothing"), file)
    assert file.read_bytes() == b"good"
    store.write(store.join("x"), b"new")
    (tmp_path / "plain").write_bytes(b"")
    with pytest.raises(SeawayError, match="cannot be written") as caught:  # below a file there is no place for another
        store.download(store.join("x"), tmp_path / "plain" / "x")
    assert "AWS" not in str(caught.value) and not isinstance(caught.value, Absent)
    store.download(store.join("x"), file)
    assert file.read_bytes() == b"new" and sorted(p.name for p in tmp_path.glob(".*")) == []


def test_a_folder_comes_back_as_it_was(store, tmp_path):
    folder = folder_of(tmp_path / "in", a="A", deep__er__b="B")
    uri = store.join("bundles", "x")
    store.publish(folder, uri)
    store.publish(folder, uri)  # the same again is nothing
    assert store.exists(uri)
    folder_of(tmp_path / "out", old="gone")
    store.fetch(uri, tmp_path / "out")
    assert files_of(tmp_path / "out") == {"a": "A", "deep/er/b": "B"}
    assert [f.uri for f in store.find(uri)] == [f"{uri}/a", f"{uri}/deep/er/b"]


def test_a_published_folder_is_not_changed_by_accident(store, tmp_path):
    uri = store.join("x")
    store.publish(folder_of(tmp_path / "one", a="1", b="1"), uri)
    other = folder_of(tmp_path / "two", a="2")
    with pytest.raises(SeawayError, match="holds other files"):
        store.publish(other, uri)
    assert files_of(store.fetch(uri, tmp_path / "out")) == {"a": "1", "b": "1"}
    store.publish(other, uri, replace=True)
    assert files_of(store.fetch(uri, tmp_path / "out")) == {"a": "2"}


def test_a_folder_without_its_list_is_absent(store, tmp_path):
    """The list is written last: what a killed publisher left does not exist."""
    uri = store.join("x")
    store.publish(folder_of(tmp_path / "in", a="1"), uri)
    store.remove(f"{uri}/{LIST}")
    assert not store.exists(uri)
    with pytest.raises(Absent):
        store.fetch(uri, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    store.publish(tmp_path / "in", uri)
    assert files_of(store.fetch(uri, tmp_path / "out")) == {"a": "1"}


def test_a_changed_file_is_found_and_leaves_the_folder_alone(store, tmp_path):
    uri = store.join("x")
    store.publish(folder_of(tmp_path / "in", a="1", b="2"), uri)
    store.write(f"{uri}/b", b"3")
    folder_of(tmp_path / "out", before="here")
    with pytest.raises(SeawayError, match="x/b is not the file"):
        store.fetch(uri, tmp_path / "out")
    assert files_of(tmp_path / "out") == {"before": "here"}


@pytest.mark.parametrize("name", ["../out", "/etc/x", "a//b", ""])
def test_a_list_cannot_name_files_elsewhere(store, tmp_path, name):
    uri = store.join("x")
    store.write(f"{uri}/{LIST}", b'{"files": {"%s": "0"}}' % name.encode())
    with pytest.raises(SeawayError, match="no list of files"):
        store.fetch(uri, tmp_path / "out")


def test_a_removed_folder_is_gone(store, tmp_path):
    store.publish(folder_of(tmp_path / "in", a="1"), store.join("x"))
    store.publish(tmp_path / "in", store.join("xy"))
    store.remove(store.join("x"))
    assert not store.exists(store.join("x")) and store.exists(store.join("xy"))


def test_many_publish_the_same_at_once(store, tmp_path):
    folder = folder_of(tmp_path / "in", **{f"f{i}": "x" * i for i in range(20)})
    problems = []

    def publish() -> None:
        try:
            store.publish(folder, store.join("x"))
        except SeawayError as error:
            problems.append(error)

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(files_of(store.fetch(store.join("x"), tmp_path / "out"))) == 20


def test_links_and_empty_folders_are_not_published(store, tmp_path):
    folder_of(tmp_path / "in", a="1")
    (tmp_path / "in" / "link").symlink_to("/etc/passwd")
    with pytest.raises(SeawayError, match="is a link"):
        store.publish(tmp_path / "in", store.join("x"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SeawayError, match="no files"):
        store.publish(tmp_path / "empty", store.join("y"))


@pytest.mark.parametrize(
    "uri", ["bucket/x", "s3://", "s3:///x", "file://x", "file://host/x", "http://x/y", "s3://b/../x", "s3://b/a//b"]
)
def test_what_is_no_uri_is_refused(uri):
    with pytest.raises(SeawayError, match="is no storage URI"):
        Storage(uri)


def test_the_environments_storage(tmp_path):
    config = load(overrides={"storage": {"uri": "s3://b/p/", "endpoint": "http://x:1", "region": "r"}})
    store = Storage.of(config)
    assert store == Storage("s3://b/p", "http://x:1", "r") and store.join("a", "b/") == "s3://b/p/a/b"
    assert Storage.of(load()) is None
    assert Storage.holding(config, "s3://other/x") == store
    assert Storage.holding(config, "file:///x") == Storage("file:///x")


def test_a_server_that_is_not_there_is_named():
    code = (
        "from seaway.storage import Storage\n"
        "from seaway.errors import SeawayError\n"
        "try: Storage('s3://b/p', 'http://127.0.0.1:9', 'r').write('s3://b/p/x', b'')\n"
        "except SeawayError as error: print(error)"
    )
    env = {**os.environ, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    said = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60).stdout
    assert "s3://b/p/x cannot be used" in said and "storage.endpoint" in said and "secret" not in said.lower()


def test_a_bucket_that_is_not_there_is_named(s3):
    with pytest.raises(SeawayError, match="s3://nobody/x"):
        Storage("s3://nobody", s3, REGION).write("s3://nobody/x", b"")


def test_a_publisher_that_is_killed_leaves_nothing_that_counts(store, tmp_path, monkeypatch):
    uri, real, done = store.join("x"), Storage.upload, []

    def upload(self, file, where):
        if done:
            raise KeyboardInterrupt
        done.append(where)
        real(self, file, where)

    folder = folder_of(tmp_path / "in", a="1", b="2", c="3")
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "upload", upload)
        with pytest.raises(KeyboardInterrupt):
            store.publish(folder, uri)
    assert done and not store.exists(uri)
    store.publish(folder, uri)
    assert files_of(store.fetch(uri, tmp_path / "out")) == {"a": "1", "b": "2", "c": "3"}
