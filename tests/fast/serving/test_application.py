"""The service over ASGI: right answers, right refusals, backpressure, adapters that come and go."""

import asyncio
import base64
import os
import threading
import time

import pytest

pytest.importorskip("starlette", reason='needs pip install "speechprompt-hf[serve]"')
pytest.importorskip("prometheus_client", reason='needs pip install "speechprompt-hf[serve]"')

from speechprompt_hf.evaluation import predict_files
from speechprompt_hf.modeling.auto import SpeechPromptModel
from speechprompt_hf.serving import BatchSettings, ServingLimits
from speechprompt_hf.serving.application import create_application
from speechprompt_hf.serving.limits import AdapterPermissions
from speechprompt_hf.serving.service import SpeechPromptService

TOKEN = {"Authorization": "Bearer secret"}


@pytest.fixture
def make_service(engine):
    services = []

    def make(**options):
        service = SpeechPromptService(engine, **options)
        service.start()
        services.append(service)
        return service

    yield make
    for service in services:
        service.close()


@pytest.fixture
def gate(engine, monkeypatch):
    """Answers wait until it is set; `busy` says that one does."""
    answer, busy, opened = engine.answer, threading.Event(), threading.Event()

    def wait(group, questions):
        busy.set()
        assert opened.wait(20)
        return answer(group, questions)

    monkeypatch.setattr(engine, "answer", wait)
    opened.busy = busy
    yield opened
    opened.set()


def post(name, content, **headers):
    return ("POST", f"/models/{name}", {"content": content, "headers": headers})


def post_json(name, content, **parameters):
    inputs = base64.b64encode(content).decode()
    return ("POST", f"/models/{name}", {"json": {"inputs": inputs, "parameters": parameters}})


def refused(response):
    """The sentence of a refusal, which is all that it says."""
    assert list(response.json()) == ["error"] and response.headers["content-type"] == "application/json"
    return response.status_code, response.json()["error"]


def figure(service, line):
    (found,) = [one for one in service.metrics.text()[0].decode().splitlines() if one.startswith(line + " ")]
    return float(found.split()[-1])


def test_answers_equal_predict_in_mixed_batches(make_service, ask_all, served_adapters, served_recordings):
    service = make_service(batches=BatchSettings(max_batch_size=8, max_wait_ms=50))
    application = create_application(service)
    files = [path.read_bytes() for path in served_recordings]
    names = ["words", "moods", "orders", "texts"]
    requests = [post(name, file) for file in files for name in names]
    requests += [post_json(name, file, top_k=1) for file in files for name in names[:3]]
    responses = ask_all(application, requests)
    assert [response.status_code for response in responses] == [200] * len(requests)
    answers = [response.json() for response in responses]
    for column, name in enumerate(names):
        model = SpeechPromptModel.from_pretrained(served_adapters[name])
        expected = list(predict_files(model, served_recordings))
        for row, prediction in enumerate(expected):
            answer = answers[row * 4 + column]
            if name == "texts":
                assert answer == {"text": prediction.text}
                continue
            assert answer[0]["label"] == prediction.label
            assert answer[0]["score"] == pytest.approx(prediction.probability, abs=1e-4)
            assert sum(one["score"] for one in answer) == pytest.approx(1)
            assert sorted(one["label"] for one in answer) == sorted(model.config.class_names)
            (best,) = answers[24 + row * 3 + column]
            assert best["label"] == prediction.label
    assert len({prediction.text for prediction in expected}) > 1
    batches = figure(service, 'speechprompt_batch_rows_count{task="audio-classification"}')
    assert batches < 18  # of 36 requests of three tasks
    assert figure(service, 'speechprompt_requests_total{model="moods",status="200",task="audio-classification"}') == 12
    assert service.admission.num_requests == service.admission.num_bytes == 0


def test_functions_and_beams(make_service, ask_all, served_recordings):
    application = create_application(make_service())
    file = served_recordings[0].read_bytes()
    functions = ("softmax", "sigmoid", "none")
    softmax, sigmoid, none = (
        {one["label"]: one["score"] for one in response.json()}
        for response in ask_all(application, [post_json("moods", file, function_to_apply=name) for name in functions])
    )
    import math

    total = sum(map(math.exp, none.values()))
    for label, score in none.items():
        assert softmax[label] == pytest.approx(math.exp(score) / total)
        assert sigmoid[label] == pytest.approx(1 / (1 + math.exp(-score)))
    plain, beams = ask_all(application, [post("texts", file), post_json("texts", file, num_beams=3)])
    assert plain.status_code == beams.status_code == 200 and list(beams.json()) == ["text"]


def test_models_are_described(make_service, ask_all):
    application = create_application(make_service())
    everything, one, health = ask_all(
        application, [("GET", "/models", {}), ("GET", "/models/texts", {}), ("GET", "/health", {})]
    )
    assert [model["name"] for model in everything.json()["models"]] == ["words", "moods", "orders", "texts"]
    assert everything.json()["models"][0] == {
        "name": "words",
        "task": "audio-classification",
        "url": "/models/words",
        "labels": ["no", "yes"],
    }
    assert one.json() == {"name": "texts", "task": "automatic-speech-recognition", "url": "/models/texts"}
    assert health.status_code == 200 and health.json() == {"status": "ok"}


def test_refusals(make_service, ask_all, served_recordings):
    limits = ServingLimits(max_bytes=60_000, max_seconds=5)
    service = make_service(limits=limits)
    file = served_recordings[0].read_bytes()
    cases = {
        404: [post("nobody", file), ("POST", "/predict", {"content": file}), ("GET", "/models/nobody", {})],
        405: [("PATCH", "/models/words", {})],
        400: [post("words", b""), post("words", b"{", **{"content-type": "application/json"})],
        413: [
            post("words", bytes(limits.max_body_bytes + 1)),
            post("words", bytes(60_001)),
            post("words", file, **{"content-length": "9" * 30}),
        ],
        415: [post("words", file, **{"content-encoding": "gzip"}), ("POST", "/models/words", {"files": {"f": file}})],
        422: [post("words", b"no sound at all"), post("words", file[:200])],
    }
    for status, requests in cases.items():
        for response in ask_all(create_application(service), requests):
            found, sentence = refused(response)
            assert found == status and len(sentence.split()) > 3 and "\n" not in sentence
            assert "Traceback" not in sentence and os.sep + "models" not in sentence.replace("/models ", "")
            assert (response.headers.get("allow") is not None) == (status == 405)
    assert service.admission.num_requests == service.admission.num_bytes == 0
    text = service.metrics.text()[0].decode()
    assert "nobody" not in text  # what strangers ask for makes no series
    assert figure(service, 'speechprompt_requests_total{model="",status="404",task=""}') == 1


def test_recordings_that_the_base_cannot_read_are_refused_alone(make_service, ask_all, served_recordings):
    from tests.fast.serving.test_bodies import encoded
    from tests.fixtures.speech_encoders import waveforms

    application = create_application(make_service(batches=BatchSettings(max_wait_ms=100)))
    long = encoded(waveforms([160_000])[0])
    requests = [post("words", long), post("words", served_recordings[0].read_bytes()), post("texts", long)]
    first, second, third = ask_all(application, requests)
    assert refused(first)[0] == refused(third)[0] == 422
    assert "units, more than the 58 that the base reads at once" in refused(first)[1]
    assert second.status_code == 200


def test_what_goes_wrong_inside_is_said_without_details(make_service, ask_all, engine, monkeypatch, served_recordings):
    answer = engine.answer

    def fail(group, questions):
        if any(question.name == "orders" for question in questions):
            raise RuntimeError("a secret of the inside")
        return answer(group, questions)

    monkeypatch.setattr(engine, "answer", fail)
    application = create_application(make_service(batches=BatchSettings(max_wait_ms=100)))
    file = served_recordings[0].read_bytes()
    good, bad, other = ask_all(application, [post("words", file), post("orders", file), post("moods", file)])
    assert good.status_code == other.status_code == 200
    assert refused(bad) == (500, "the service failed to answer; its log says why")


def test_more_than_the_queue_holds_is_told_to_come_again(make_service, ask_all, gate, served_recordings):
    service = make_service(limits=ServingLimits(max_queue=3))
    file = served_recordings[0].read_bytes()
    threading.Thread(target=lambda: (time.sleep(0.5), gate.set())).start()
    responses = ask_all(create_application(service), [post("words", file)] * 5)
    assert sorted(response.status_code for response in responses) == [200, 200, 200, 503, 503]
    for response in responses:
        if response.status_code == 503:
            assert response.headers["retry-after"] == "1"
            assert refused(response)[1] == "3 requests are waiting already; try again later"


def test_bytes_that_wait_are_limited(make_service, ask_all, gate, served_recordings):
    file = served_recordings[0].read_bytes()
    limits = ServingLimits(max_bytes=len(file), max_pending_bytes=2 * 65_536)
    service = make_service(limits=limits)
    threading.Thread(target=lambda: (time.sleep(0.5), gate.set())).start()
    # The samples of one recording are 36 kB.
    responses = ask_all(create_application(service), [post("words", file)] * 10)
    statuses = [response.status_code for response in responses]
    assert set(statuses) == {200, 503} and statuses.count(200) >= 2
    assert service.admission.num_bytes == 0


def test_time_runs_out_for_what_waits_and_it_costs_nothing(make_service, ask_all, gate, served_recordings):
    service = make_service(limits=ServingLimits(timeout_s=0.6), batches=BatchSettings(max_batch_size=1, max_wait_ms=0))
    application = create_application(service)
    file = served_recordings[0].read_bytes()
    responses = ask_all(application, [post("words", file)] * 3)
    for response in responses:
        assert refused(response) == (503, "the request's time was out before it was answered; try again later")
    gate.set()
    (response,) = ask_all(application, [post("words", file)])
    assert response.status_code == 200
    dropped = sum(
        float(line.split()[-1])
        for line in service.metrics.text()[0].decode().splitlines()
        if line.startswith("speechprompt_dropped_rows_total{")
    )
    assert dropped == 2  # the third was being answered
    assert figure(service, 'speechprompt_batch_rows_count{task="audio-classification"}') == 2


def scope_of(path, headers=()):
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": list(headers),
        "scheme": "http",
        "server": ("service", 80),
        "client": ("client", 1),
        "root_path": "",
    }


def speak(application, messages, wait_after=0.0):
    """Messages of one client by hand, with pauses for numbers; what the application sent."""
    sent = []

    async def run():
        queue = list(messages)

        async def receive():
            while queue and not isinstance(queue[0], dict):
                await asyncio.sleep(queue.pop(0))
            if queue:
                return queue.pop(0)
            await asyncio.Event().wait()

        async def send(message):
            sent.append(message)

        await application(scope_of("/models/words"), receive, send)

    asyncio.run(asyncio.wait_for(run(), 15))
    return sent


def test_a_client_that_goes_frees_its_place(make_service, gate, served_recordings):
    service = make_service(batches=BatchSettings(max_batch_size=1, max_wait_ms=0))
    application = create_application(service)
    body = {"type": "http.request", "body": served_recordings[0].read_bytes(), "more_body": False}
    gone = {"type": "http.disconnect"}
    speak(application, [body, 0.3, gone])  # while its row is answered
    speak(application, [body, 0.3, gone])  # while it waits
    speak(application, [{**body, "more_body": True}, gone])  # while it is sent
    assert service.admission.num_requests == service.admission.num_bytes == 0
    gate.set()
    service.batcher.run(lambda: None).result(10)
    assert figure(service, 'speechprompt_dropped_rows_total{reason="cancelled"}') == 1
    assert figure(service, 'speechprompt_requests_total{model="words",status="499",task="audio-classification"}') == 3


def test_a_body_that_does_not_come_is_not_waited_for(make_service):
    service = make_service(limits=ServingLimits(timeout_s=0.3))
    sent = speak(create_application(service), [{"type": "http.request", "body": b"RIFF", "more_body": True}])
    assert sent[0]["status"] == 408 and (b"connection", b"close") in sent[0]["headers"]
    assert b"the body did not come in time" in sent[1]["body"]
    assert service.admission.num_requests == service.admission.num_bytes == 0


def test_a_body_without_a_length_is_read_no_further_than_its_limit(make_service):
    service = make_service(limits=ServingLimits(max_bytes=1000))
    chunk = {"type": "http.request", "body": bytes(20_000), "more_body": True}
    sent = speak(create_application(service), [chunk] * 20)
    assert sent[0]["status"] == 413 and (b"connection", b"close") in sent[0]["headers"]


def test_nobody_changes_adapters_without_the_token(make_service, ask_all, served_adapters):
    service = make_service(permissions=AdapterPermissions((served_adapters["words"].parent,)))
    body = {"json": {"adapter": str(served_adapters["words"])}}
    requests = [("PUT", "/models/x", body), ("DELETE", "/models/words", {})]
    for response in ask_all(create_application(service), requests):
        assert refused(response) == (403, "adapters cannot be changed here: the service has no admin token")
    application = create_application(service, admin_token="secret")
    for given in (None, b"Bearer wrong", b"secret", "Bearer é".encode(), b"Bearer secret\xff"):
        headers = {} if given is None else {"headers": {"Authorization": given}}
        (response,) = ask_all(application, [("DELETE", "/models/words", headers)])
        assert refused(response) == (401, "the admin token is missing or wrong")
        assert response.headers["www-authenticate"] == "Bearer"
    assert len(service.models) == 4


def test_adapters_come_and_go(make_service, ask_all, served_adapters, served_recordings):
    permissions = AdapterPermissions((served_adapters["words"].parent,))
    service = make_service(permissions=permissions)
    application = create_application(service, admin_token="secret")
    file = served_recordings[0].read_bytes()

    def put(name, adapter):
        return ("PUT", f"/models/{name}", {"json": {"adapter": str(adapter)}, "headers": TOKEN})

    def delete(name):
        return ("DELETE", f"/models/{name}", {"headers": TOKEN})

    (before,) = ask_all(application, [post("words", file)])
    for name in ("words", "orders", "moods", "texts"):  # the active one, and at last all of a kind
        (response,) = ask_all(application, [delete(name)])
        assert response.status_code == 200 and response.json() == {"unloaded": name}
    assert service.models == []
    assert refused(ask_all(application, [post("words", file)])[0])[0] == 404
    assert refused(ask_all(application, [delete("words")])[0])[0] == 404
    for name, adapter in (("again", "words"), ("said", "texts"), ("moods", "moods")):
        (response,) = ask_all(application, [put(name, served_adapters[adapter])])
        assert response.status_code == 201 and response.json()["url"] == f"/models/{name}"
    answers = ask_all(application, [post("again", file), post("said", file), post("moods", file)])
    assert [answer.status_code for answer in answers] == [200] * 3
    assert answers[0].json()[0]["label"] == before.json()[0]["label"]
    assert answers[0].json()[0]["score"] == pytest.approx(before.json()[0]["score"], abs=1e-5)
    assert refused(ask_all(application, [put("again", served_adapters["moods"])])[0])[0] == 409
    status, sentence = refused(ask_all(application, [put("other", served_adapters["stranger"])])[0])
    assert (status == 422 and "sha256" in sentence) or "trained" in sentence
    assert 'model="words"' not in service.metrics.text()[0].decode()


def test_adapters_come_only_from_where_they_may(make_service, ask_all, served_adapters, tmp_path):
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "link").symlink_to(served_adapters["words"], target_is_directory=True)
    (allowed / "file").write_text("x")
    (allowed / "empty").mkdir()
    service = make_service(permissions=AdapterPermissions((allowed,), ("me/*",)))
    application = create_application(service, admin_token="secret")

    def load(adapter, name="x"):
        (response,) = ask_all(
            application, [("PUT", f"/models/{name}", {"json": {"adapter": adapter}, "headers": TOKEN})]
        )
        return refused(response)

    forbidden = (403, "this service may not load adapters from there")
    assert load(str(served_adapters["words"])) == forbidden
    assert load(str(tmp_path / "no such folder")) == forbidden
    assert load(str(allowed / "link")) == forbidden
    assert load(str(allowed / ".." / "elsewhere")) == forbidden
    assert load("you/words") == load("me/../you/words") == load("words\0") == forbidden
    assert load(str(allowed / "absent")) == (404, "there is no such folder")
    assert load(str(allowed / "file"))[0] == 404
    status, sentence = load(str(allowed / "empty"))
    assert status == 422 and "has no config.json" in sentence
    assert load(str(allowed / "empty"), name="a b")[0] == 422
    assert load(3)[0] == load("")[0] == load(None)[0] == 400
    (response,) = ask_all(application, [("PUT", "/models/x", {"content": b"x", "headers": TOKEN})])
    assert refused(response)[0] == 415
    status, sentence = load("me/words")  # tests are offline
    assert status == 422 and "me/words" in sentence
    assert len(service.models) == 4


def test_what_was_taken_is_answered_before_its_adapter_goes(make_service, engine, gate, served_recordings):
    httpx2 = pytest.importorskip("httpx2")
    service = make_service(batches=BatchSettings(max_batch_size=1, max_wait_ms=0))
    application = create_application(service, admin_token="secret")
    file = served_recordings[0].read_bytes()

    async def run():
        transport = httpx2.ASGITransport(application)
        async with httpx2.AsyncClient(transport=transport, base_url="http://service", timeout=30) as client:
            taken = [asyncio.ensure_future(client.post("/models/words", content=file)) for _ in range(2)]
            while service.batcher.queue_length < 1:  # one is being answered, one waits
                await asyncio.sleep(0.01)
            removal = asyncio.ensure_future(client.delete("/models/words", headers=TOKEN))
            await asyncio.sleep(0.2)
            late = await client.post("/models/words", content=file)
            assert not removal.done() and "words" in engine.models
            gate.set()
            return [one.status_code for one in (*await asyncio.gather(*taken, removal), late)]

    assert asyncio.run(run()) == [200, 200, 200, 404]
    assert "words" not in engine.models


def test_health_says_when_the_model_has_ended(make_service, ask_all, served_recordings):
    service = make_service()
    application = create_application(service)
    service.batcher.close()
    health, answer = ask_all(application, [("GET", "/health", {}), post("words", served_recordings[0].read_bytes())])
    assert health.status_code == 503
    assert refused(answer) == (503, "the service is shutting down")
