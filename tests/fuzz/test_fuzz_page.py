"""Whatever a browser sends to the page: an answer or one sentence, never a fault of the program."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from fuzz.running import LONG, QUICK, fuzz, mutated, mutated_bytes
from hypothesis import strategies as st
from PIL import Image
from poke_page_parts import SIZE, Shift, blocks

from bench.poke_page.predictors import Predictor
from bench.poke_page.scenes import Scene
from bench.poke_page.server import make_app
from bench.poke_page.session import Session

ASKED = {"method": "method-0", "scene": "scene-0", "location": [8, 9], "displacement": [10, -5], "seed": 0}


@pytest.fixture(scope="module")
def page() -> Iterator[TestClient]:
    method = Shift()
    scene = Scene("scene0", "Scene", torch.from_numpy(blocks()).permute(2, 0, 1))
    session = Session([Predictor("shift", "Shift", method, torch.device("cpu"))], [scene], SIZE)
    with TestClient(make_app(session), base_url="http://127.0.0.1:8008", raise_server_exceptions=False) as client:
        yield client


def check(response: Any) -> None:
    """Only a server's fault has a status of 500."""
    assert response.status_code in (200, 404, 405, 413, 415, 422), (response.status_code, response.text[:300])
    if response.status_code != 200:
        assert response.json()["error"].strip()


def picture() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.asarray(blocks(64), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def bodies() -> st.SearchStrategy[bytes]:
    changed = mutated(ASKED).map(lambda value: json.dumps(value).encode())
    return changed | mutated_bytes(json.dumps(ASKED).encode()) | st.just(b"[" * 4000)


def exercise(page: TestClient, examples: int) -> None:
    check(page.post("/api/answers", json=ASKED))

    def ask(body: bytes) -> None:
        check(page.post("/api/answers", content=body, headers={"content-type": "application/json"}))

    def upload(data: bytes) -> None:
        check(page.post("/api/uploads?crop=true", content=data, headers={"content-type": "image/png"}))

    def fetch(tail: str) -> None:
        check(page.get(f"/api/answers/{tail}"))

    tails = st.sampled_from(["answer-0.png", "answer-0/clip.mp4?scale=9", "../x.png", "%00.png", "%2e%2e/clip.gif"])
    tails |= st.text("abc-019./%?=&", max_size=20)
    for use, values in ((ask, bodies()), (upload, mutated_bytes(picture())), (fetch, tails)):
        assert sum(fuzz(use, values, examples)) > 0


def test_the_page_answers_whatever_is_sent(page: TestClient) -> None:
    exercise(page, QUICK)


@pytest.mark.slow
def test_the_page_answers_whatever_is_sent_at_length(page: TestClient) -> None:
    exercise(page, LONG)
