"""Many clients at once: one call of the model at a time, a queue that ends, what is kept; and answers as HTTP wants."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval.index import Index
from retrieval.web import service
from retrieval.web.app import make_app
from retrieval.web.render import STATIC, Assets
from retrieval.web.service import MOST_WAITING, Latest
from tests.support.audio import write_tone
from tests.support.webserver import Answer, ask, form, running_server
from training.models.clap import Clap

WAIT_S = 30.0


class Watched:
    """A model that counts its calls, and can be held."""

    def __init__(self, model: Clap) -> None:
        self.sample_rate = model.sample_rate
        self.texts: list[str] = []
        self.num_sounds = 0
        self.most_at_once = 0
        self.go = threading.Event()
        self.go.set()
        self._model, self._at_once, self._lock = model, 0, threading.Lock()

    def embed_text(self, texts: list[str]) -> np.ndarray:
        return self._call(lambda: self._model.embed_text(texts), texts=texts)

    def embed_audio(self, sounds: list[np.ndarray], sample_rate: int) -> np.ndarray:
        self.num_sounds += 1
        return self._call(lambda: self._model.embed_audio(sounds, sample_rate=sample_rate))

    def _call(self, function: Any, texts: tuple[str, ...] | list[str] = ()) -> np.ndarray:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self.texts += texts
        assert self.go.wait(WAIT_S)
        time.sleep(0.005)
        try:
            found: np.ndarray = function()
            return found
        finally:
            with self._lock:
                self._at_once -= 1


@pytest.fixture
def watched(index: Index, model: Clap) -> Iterator[tuple[str, Watched]]:
    """A page of its own, and its model; what the start embedded is forgotten."""
    stand_in: Any = Watched(model)
    with running_server(make_app(index, stand_in)) as found:
        stand_in.texts.clear()
        try:
            yield found, stand_in
        finally:
            stand_in.go.set()


def at_once(address: str, paths: list[str]) -> list[Answer]:
    with ThreadPoolExecutor(len(paths)) as threads:
        return list(threads.map(lambda path: ask(address, path), paths))


def test_the_model_is_asked_by_one_at_a_time(watched: tuple[str, Watched], tmp_path: Path) -> None:
    address, model = watched
    kind, body = form(("sound", "a.wav", write_tone(tmp_path / "a.wav", seconds=0.3).read_bytes()))

    def upload(_: int) -> Answer:
        return ask(address, "/api/sound", method="POST", headers={"Content-Type": kind}, body=body)

    with ThreadPoolExecutor(12) as threads:
        uploads = threads.map(upload, range(2))
        texts = threads.map(lambda number: ask(address, f"/?q=tone+{number}"), range(10))
        statuses = [answer.status for answer in (*uploads, *texts)]
    assert statuses == [200] * 12
    assert sorted(model.texts) == sorted(f"tone {number}" for number in range(10))
    assert model.most_at_once == 1


def test_a_text_that_was_asked_before_costs_no_model(watched: tuple[str, Watched]) -> None:
    address, model = watched
    answers = at_once(address, ["/api/search?q=a+low+tone"] * 8)
    answers += [ask(address, path) for path in ("/api/search?q=a+low+tone", "/?q=a+low+tone&tag=even")]
    assert [answer.status for answer in answers] == [200] * 10
    assert len({answer.body for answer in answers[:9]}) == 1
    assert model.texts == ["a low tone"]


def test_a_file_that_was_uploaded_before_costs_no_model(watched: tuple[str, Watched], tmp_path: Path) -> None:
    address, model = watched
    wav = write_tone(tmp_path / "a.wav", seconds=0.3).read_bytes()
    for name in ("a.wav", "b.wav"):
        kind, body = form(("sound", name, wav))
        answer = ask(address, "/sound", method="POST", headers={"Content-Type": kind}, body=body)
        assert name in ask(address, answer.headers["location"]).text
    assert model.num_sounds == 1


def test_who_finds_too_many_waiting_is_sent_away_and_the_others_served(watched: tuple[str, Watched]) -> None:
    address, model = watched
    model.go.clear()
    most, more = 1 + MOST_WAITING, 4
    paths = [f"/api/search?q=tone+{number}" for number in range(most)] + ["/?q=another"] * more
    with ThreadPoolExecutor(len(paths)) as threads:
        asked = [threads.submit(ask, address, path) for path in paths]
        done: set[Any] = set()
        while len(done) < more:  # of those that the model holds, none can be done
            done = wait(asked, WAIT_S, FIRST_COMPLETED).done if not done else wait(asked, 0.05).done
        answers = [each.result() for each in done]
        for path in ("/", "/?tag=even", "/?like=soundbible-1", "/clip/soundbible-1", "/api/index"):
            assert ask(address, path).status == 200, f"{path} needs no model"
        model.go.set()
        statuses = sorted(each.result().status for each in asked)
    assert statuses == [200] * most + [503] * more
    assert {answer.status for answer in answers} == {503}
    for answer in answers:
        assert answer.headers["retry-after"] == "2"
        assert "Too many searches at once. Wait a few seconds and try again." in answer.text
        assert answer.text.startswith(("<!doctype html>", '{"error":"'))
    assert ask(address, "/?q=another").status == 200


def test_a_fault_of_ours_is_a_page_and_json_and_is_logged(
    index: Index, model: Clap, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a fault for this test")

    with running_server(make_app(index, model)) as address:
        assert ask(address, "/?q=rain").status == 200
        monkeypatch.setattr(service, "top_rows", fail)
        with caplog.at_level(logging.CRITICAL, logger="uvicorn.error"):
            broken, in_json = ask(address, "/?q=rain"), ask(address, "/api/search?q=rain")
        assert (broken.status, in_json.status) == (500, 500)
        assert "<title>Something broke · WavText5K</title>" in broken.text
        assert "a fault for this test" not in broken.text + in_json.text
        assert in_json.text == '{"error":"The server could not answer this; what went wrong stands in its log."}'
        monkeypatch.undo()
        assert ask(address, "/?q=rain").status == 200


def test_static_files_may_be_kept_for_good_and_change_their_address(address: str) -> None:
    names = [path.name for path in STATIC.iterdir()]
    assert sorted(names) == ["icon.svg", "page.js", "style.css"]
    start = ask(address, "/").text
    for name in names:
        link = Assets().address(name)
        assert link in start
        answer = ask(address, link)
        assert answer.status == 200
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.body == (STATIC / name).read_bytes()
    kinds = {name: ask(address, Assets().address(name)).headers["content-type"] for name in names}
    assert kinds == {
        "icon.svg": "image/svg+xml",
        "page.js": "text/javascript; charset=utf-8",
        "style.css": "text/css; charset=utf-8",
    }
    assert ask(address, "/").headers["cache-control"] == "no-cache"


def test_an_asset_with_other_content_has_another_address(tmp_path: Path) -> None:
    (tmp_path / "style.css").write_text("a {}")
    before = Assets(tmp_path).address("style.css")
    (tmp_path / "style.css").write_text("b {}")
    assert Assets(tmp_path).address("style.css") != before


def test_head_and_other_methods(address: str) -> None:
    for path in ("/", "/?q=rain", "/clip/soundbible-1", "/clip/soundbible-1/audio.flac", "/api", "/api/index"):
        head = ask(address, path, method="HEAD")
        assert (head.status, head.body) == (200, b"")
    for path in ("/", "/clip/soundbible-1", "/api/search"):
        answer = ask(address, path, method="POST", body=b"")
        assert answer.status == 405
        assert sorted(answer.headers["allow"].split(", ")) == ["GET", "HEAD"]
    assert ask(address, "/api/sound").headers["allow"] == "POST"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get"])
def test_methods_that_no_page_has_are_refused(address: str, method: str) -> None:
    for path, allowed in (("/", ["GET", "HEAD"]), ("/sound", ["GET", "HEAD", "POST"]), ("/api/sound", ["POST"])):
        answer = ask(address, path, method=method)
        assert (answer.status, sorted(answer.headers["allow"].split(", "))) == (405, allowed)
        assert f"does not answer {method} requests" in answer.text


def test_no_page_asks_for_anything_inline(address: str) -> None:
    for path in ("/", "/?q=rain", "/clip/soundbible-1", "/api", "/nowhere"):
        text = ask(address, path).text
        assert "<style" not in text
        assert " style=" not in text
        assert text.count("<script") == text.count("<script src=") == 1


def test_a_store_keeps_the_latest_used() -> None:
    store: Latest[str, int] = Latest(2)
    store.put("a", 1)
    store.put("b", 2)
    assert store.get("a") == 1
    store.put("c", 3)
    assert [store.get(key) for key in "abc"] == [1, None, 3]
    store.put("a", 4)
    assert [store.get(key) for key in "abc"] == [4, None, 3]
