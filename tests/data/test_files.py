"""Files of data sets are found where they lie, downloaded where they do not, and checked."""

import hashlib
import io
import os

import pytest
import requests
import urllib3

from kahlervae.data.files import DataFile, locate
from kahlervae.data.idx import size_limit
from kahlervae.errors import InputError
from kahlervae.places import FOLDERS, folders

CONTENT = {"images.gz": bytes(range(200)), "labels.gz": bytes(100)}
FILES = [
    DataFile(name, hashlib.sha256(content).hexdigest(), (len(content),))
    for name, content in CONTENT.items()
]
FIRST, SECOND = "https://first.example/set/", "https://second.example/"


class Web(requests.adapters.BaseAdapter):
    """Answers by address: bytes, an address to go to, an exception, or 404."""

    def __init__(self):
        super().__init__()
        self.answers = {}
        self.asked = []

    def send(self, request, **_):
        self.asked.append(request.url)
        answer = self.answers.get(request.url, 404)
        if isinstance(answer, Exception):
            raise answer
        response = requests.Response()
        response.url, response.request = request.url, request
        response.status_code = 200
        if isinstance(answer, bytes):
            response.headers["content-length"] = str(len(answer))
        elif isinstance(answer, str):
            response.status_code, response.headers["location"] = 302, answer
        elif isinstance(answer, int):
            response.status_code = answer
        body = (
            answer
            if isinstance(answer, io.BytesIO)
            else io.BytesIO(answer if isinstance(answer, bytes) else b"")
        )
        response.raw = urllib3.HTTPResponse(body, preload_content=False)
        return response

    def close(self):
        pass


@pytest.fixture
def web(monkeypatch):
    adapter = Web()
    monkeypatch.setattr(requests.Session, "get_adapter", lambda session, url: adapter)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return adapter


def put(folder, name, content):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def test_local_files_come_first_and_in_the_order_of_the_folders(tmp_path, web):
    near, far = tmp_path / "near", tmp_path / "far"
    put(near / "set", "labels.gz", CONTENT["labels.gz"])
    for name, content in CONTENT.items():
        put(far / "set", name, content)
    found = locate("set", [FIRST], FILES, [near / "set", far / "set"])
    assert found["labels.gz"] == near / "set/labels.gz"
    assert found["images.gz"] == far / "set/images.gz"
    assert not web.asked


def test_a_local_file_with_another_checksum_is_refused(tmp_path, web):
    put(tmp_path / "set", "images.gz", b"something else")
    with pytest.raises(InputError, match=rf"images\.gz has the SHA-256 .*, not {FILES[0].sha256}"):
        locate("set", [FIRST], FILES, [tmp_path / "set"])
    os.truncate(tmp_path / "set/images.gz", size_limit((200,)) + 1)
    with pytest.raises(InputError, match=r"more than images\.gz can need"):
        locate("set", [FIRST], FILES, [tmp_path / "set"])
    (tmp_path / "set/images.gz").unlink()
    (tmp_path / "set/images.gz").mkdir()
    with pytest.raises(InputError, match="is not a file"):
        locate("set", [FIRST], FILES, [tmp_path / "set"])
    assert not web.asked


def test_missing_files_are_downloaded_from_the_first_address_that_has_them(tmp_path, web):
    web.answers[FIRST + "images.gz"] = CONTENT["images.gz"]
    web.answers[SECOND + "labels.gz"] = "https://elsewhere.example/labels"
    web.answers["https://elsewhere.example/labels"] = CONTENT["labels.gz"]
    found = locate("set", [FIRST, SECOND], FILES, [tmp_path / "data/set", tmp_path / "other/set"])
    for name, content in CONTENT.items():
        assert found[name] == tmp_path / "data/set" / name
        assert found[name].read_bytes() == content
    assert web.asked[0] == FIRST + "images.gz"
    web.asked.clear()
    locate("set", [FIRST], FILES, [tmp_path / "data/set"])
    assert not web.asked


def test_a_download_is_tried_again(tmp_path, web):
    answers = [requests.ConnectionError("no route"), b"not what it should be", CONTENT["images.gz"]]
    send = web.send

    def next_answer(request, **options):
        web.answers[request.url] = answers.pop(0)
        return send(request, **options)

    web.send = next_answer
    assert locate("set", [FIRST], FILES[:1], [tmp_path / "set"])
    assert not answers


REFUSED = {
    "wrong content": (b"another file", "hash of downloaded file"),
    "no network": (requests.ConnectionError("no route"), "(first.example: no connection)"),
    "an http address": ("http://first.example/plain", "plain, which is not https"),
    "announced as too large": (bytes(10**6), "sends more than the"),
    "too large": (io.BytesIO(bytes(10**6)), "sends more than the"),
    "not there": (404, "404"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_failed_download_leaves_nothing_and_says_what_to_do(tmp_path, web, case):
    answer, reason = REFUSED[case]
    web.answers[FIRST + "images.gz"] = answer
    put(tmp_path / "set", "labels.gz", CONTENT["labels.gz"])
    with pytest.raises(InputError) as refusal:
        locate("set", [FIRST], FILES, [tmp_path / "set"])
    sentence = str(refusal.value)
    assert reason in sentence
    assert "set lacks 1 of its files" in sentence
    assert f"put images.gz (SHA-256 {FILES[0].sha256}) into {tmp_path / 'set'}." in sentence
    assert "labels.gz" not in sentence
    assert not any(url.startswith("http://") for url in web.asked)
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["labels.gz"]


def test_without_addresses_the_files_have_to_be_there(tmp_path, web):
    with pytest.raises(InputError, match=r"lacks 2 of its files .*\(no address is known\)"):
        locate("set", [], FILES, [tmp_path / "set"])


def test_a_folder_that_cannot_be_written_to(tmp_path, web):
    web.answers[FIRST + "images.gz"] = CONTENT["images.gz"]
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(InputError, match="cannot be"):
        locate("set", [FIRST], FILES, [tmp_path / "data/set"])


def test_folders_come_from_the_environment(monkeypatch):
    monkeypatch.delenv(FOLDERS, raising=False)
    assert [str(folder) for folder in folders()] == ["data"]
    monkeypatch.setenv(FOLDERS, os.pathsep.join(["a", "", "b/c"]))
    assert [str(folder) for folder in folders()] == ["a", "b/c"]
