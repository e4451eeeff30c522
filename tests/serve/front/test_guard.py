"""Who may ask, under which name, from which page, with which body."""

from __future__ import annotations

import asyncio
import logging

import pytest
from fastapi import FastAPI
from serve.front.calls import JSON_HEADERS, Call, ask, is_refusal

from emokernel import EmokernelError
from emokernel.serve.front import exposure
from emokernel.serve.front.exposure import Settings, check_exposure, is_key, is_loopback
from emokernel.serve.front.guard import front
from emokernel.serve.front.handlers import install
from emokernel.serve.front.limits import Limits

HOST = ("host", "127.0.0.1:8000")
KEY = "a-key-of-32-characters-0123456789"


class Refused:
    def __init__(self):
        self.reasons, self.answers = [], []

    def refused(self, reason):
        self.reasons.append(reason)

    def request(self, endpoint, status, steered):
        self.answers.append((endpoint, status, steered))


def served(metrics=None, **settings):
    app = FastAPI()
    install(app)

    @app.post("/v1/echo")
    async def echo(body: dict):
        return body

    @app.get("/health")
    @app.get("/")
    @app.get("/v1/models")
    async def get():
        return {}

    @app.get("/fails")
    async def fails():
        raise RuntimeError(f"a secret: {KEY}")

    return front(app, Settings(**settings), metrics)


def get(app, *headers, path="/v1/models", method="GET"):
    return ask(app, path, method=method, headers=headers)


def post(app, body, *headers, path="/v1/echo"):
    return ask(app, path, body, headers=headers or JSON_HEADERS)


# Host


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8000", "localhost:1", "LocalHost", "[::1]:8000", "[::1]"]
)
def test_a_server_on_loopback_is_asked_by_the_names_of_loopback(host):
    assert get(served(), ("host", host)).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example",
     "0.0.0.0:8000", "192.168.0.1", "localhost."],
)  # fmt: skip
def test_another_name_is_403_on_loopback(host):
    """A page of a stranger whose name was made to lead to 127.0.0.1."""
    metrics = Refused()
    answer = get(served(metrics), ("host", host))
    assert (answer.status, is_refusal(answer)) == (403, True)
    assert metrics.reasons == ["not_allowed"]


@pytest.mark.parametrize("host", ["a b", "a:b", "", "user@localhost", "localhost:8000:1", "[::1"])
def test_what_is_no_host_is_400(host):
    assert get(served(), ("host", host)).status == 400


def test_none_or_several_hosts_are_400():
    assert get(served()).status == 400
    assert get(served(), HOST, HOST).status == 400


def test_names_that_are_allowed_pass_and_off_loopback_all_do_without_any():
    app = served(hosts=("emo.example",))
    assert get(app, ("host", "EMO.example:80")).status == 200
    assert get(app, HOST).status == 200
    assert get(app, ("host", "other.example")).status == 403
    assert get(served(host="0.0.0.0"), ("host", "whatever.example")).status == 200
    app = served(host="0.0.0.0", hosts=("emo.example",))
    assert get(app, ("host", "other.example")).status == 403
    assert get(app, ("host", "10.0.0.3:8000"), path="/health").status == 200, "a probe"
    assert get(served(), ("host", "10.0.0.3:8000"), path="/health").status == 403


# Pages


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8000", 200),
        ("https://127.0.0.1:8000", 200),
        ("http://127.0.0.1:8001", 403),
        ("http://127.0.0.1", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("", 403),
        ("http://127.0.0.1:8000.evil.example", 403),
    ],
)
def test_a_page_of_another_origin_is_403(origin, status):
    app = served()
    assert get(app, HOST, ("origin", origin)).status == status
    assert post(app, {}, *JSON_HEADERS, ("origin", origin)).status == status


def test_two_origins_are_none():
    own = ("origin", "http://127.0.0.1:8000")
    assert get(served(), HOST, own, own).status == 403


def test_the_default_port_need_not_be_said():
    app = served(hosts=("emo.example",))
    for host, origin in (
        ("emo.example", "https://emo.example"),
        ("emo.example:443", "https://emo.example"),
        ("emo.example", "http://emo.example:80"),
    ):
        assert get(app, ("host", host), ("origin", origin)).status == 200


def preflight(app, origin):
    return get(
        app, HOST, ("origin", origin), ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type, x-stainless-os"),
        path="/v1/echo", method="OPTIONS",
    )  # fmt: skip


def test_cors_is_closed_unless_asked_for():
    answer = preflight(served(), "https://page.example")
    assert answer.status == 403
    assert not any(name.startswith("access-control") for name in answer.head)


@pytest.mark.parametrize(("origins", "told"), [
    (("https://page.example",), "https://page.example"), (("*",), "*"),
])  # fmt: skip
def test_a_page_that_is_allowed_may_ask_and_read_also_what_is_refused(origins, told):
    app = served(origins=origins, keys=(KEY,))
    answer = preflight(app, "https://page.example")
    assert (answer.status, answer.head["access-control-allow-origin"]) == (200, told)
    page = ("origin", "https://page.example")
    for headers, status in (
        ((*JSON_HEADERS, page, ("x-api-key", KEY)), 200),
        ((*JSON_HEADERS, page), 401),
        ((HOST, page, ("x-api-key", KEY)), 415),
    ):
        answer = post(app, {}, *headers)
        assert (answer.status, answer.head["access-control-allow-origin"]) == (status, told)
        assert "access-control-allow-credentials" not in answer.head
    others = get(app, HOST, ("origin", "https://other.example"), ("x-api-key", KEY))
    assert others.status == (200 if told == "*" else 403)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/models", {"site": "cross-site", "mode": "no-cors"}, 403),
        ("/v1/models", {"site": "cross-site", "mode": "navigate"}, 403),
        ("/", {"site": "cross-site", "mode": "navigate"}, 200),
        ("/", {"site": "cross-site", "mode": "no-cors"}, 403),
        ("/v1/models", {"site": "same-origin", "mode": "cors"}, 200),
        ("/v1/models", {"site": "none", "mode": "navigate"}, 200),
    ],
)
def test_another_site_may_open_the_page_and_nothing_else(path, headers, status):
    sent = [(f"sec-fetch-{name}", value) for name, value in headers.items()]
    assert get(served(), HOST, *sent, path=path).status == status


# Keys


def test_a_key_is_needed_for_all_but_the_probes_and_the_page():
    app = served(keys=(KEY, "another-key"))
    for path in ("/v1/models", "/v1/none", "/health/", "/healthy", "/page", "/openapi.json"):
        answer = get(app, HOST, path=path)
        assert (answer.status, answer.head["www-authenticate"]) == (401, "Bearer")
        assert is_refusal(answer)
    assert get(app, HOST, path="/health").status == get(app, HOST, path="/").status == 200
    assert get(app, HOST, path="/page/none.js").status == 404
    assert post(app, b"{", HOST).status == 401, "before anything is read"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("authorization", f"Bearer {KEY}")], 200),
        ([("authorization", f"bearer {KEY}")], 200),
        ([("x-api-key", KEY)], 200),
        ([("x-api-key", "another-key")], 200),
        ([("x-api-key", KEY), ("authorization", f"Bearer {KEY}")], 200),
        ([("x-api-key", KEY), ("authorization", "Bearer wrong")], 401),
        ([("authorization", KEY)], 401),
        ([("authorization", f"Basic {KEY}")], 401),
        ([("authorization", f"Bearer {KEY}x")], 401),
        ([("authorization", f"Bearer {KEY[:-1]}")], 401),
        ([("authorization", "Bearer")], 401),
        ([("authorization", "Bearer é")], 401),
        ([("x-api-key", "")], 401),
    ],
)
def test_one_of_the_keys_opens(headers, status):
    answer = get(served(keys=(KEY, "another-key")), HOST, *headers)
    assert answer.status == status
    assert KEY[:-1].encode() not in answer.body


def test_keys_are_compared_in_constant_time(monkeypatch):
    """Each of them, as a whole, by the function that is made for it, also after one that fits."""
    compared, compare = [], exposure.hmac.compare_digest

    def watched(one, other):
        compared.append((one, other))
        return compare(one, other)

    class Text(str):
        """A key that must not be compared by anything else."""

        def __eq__(self, other):
            raise AssertionError("compared by ==")

        __hash__ = str.__hash__

    monkeypatch.setattr(exposure.hmac, "compare_digest", watched)
    keys = [Text("first"), Text("second"), Text("third")]
    for given in ("first", "third", "firs_", "x", ""):
        assert is_key(Text(given), keys) is (given in ("first", "third"))
    asked = [(given.encode(), key.encode()) for given in ("first", "third", "firs_", "x", "")
             for key in keys]  # fmt: skip
    assert compared == asked
    assert all(type(each) is bytes for pair in compared for each in pair)


def test_keys_do_not_show(caplog):
    settings = Settings(keys=(KEY,))
    assert KEY not in repr(settings)
    with caplog.at_level(logging.DEBUG):
        get(served(keys=(KEY,)), HOST, ("authorization", f"Bearer {KEY}0"))
    assert KEY not in caplog.text
    with pytest.raises(EmokernelError) as raised:
        Settings(keys=("a secret with spaces",))
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1", "[::1]"])
def test_loopback_needs_no_key(host):
    assert is_loopback(host)
    check_exposure(host, (), waived=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "emo.example", ""])
def test_what_others_reach_needs_a_key_or_a_word(host):
    assert not is_loopback(host)
    with pytest.raises(EmokernelError, match="--no-api-key"):
        check_exposure(host, (), waived=False)
    with pytest.raises(EmokernelError, match="EMOKERNEL_API_KEY"):
        check_exposure(host, ("",), waived=False)
    check_exposure(host, (), waived=True)
    check_exposure(host, (KEY,), waived=False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"keys": ("",)}, {"keys": ("é",)}, {"keys": ("x" * 513,)}, {"origins": ("page.example",)},
        {"origins": ("https://page.example/",)}, {"origins": ("https://*.example",)},
        {"hosts": ("https://emo.example",)}, {"hosts": ("emo.example:8000",)}, {"hosts": ("",)},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(EmokernelError):
        Settings(**wrong)


# Bodies


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "",
             "application/jsonx", "application/json; charset=latin-1", "application/json, a/b"]
)  # fmt: skip
def test_what_a_page_may_send_without_being_asked_is_415(kind):
    answer = post(served(), {"a": 1}, HOST, ("content-type", kind))
    assert (answer.status, is_refusal(answer)) == (415, True)


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON", "application/json; charset=utf-8",
             'application/json;charset="UTF-8"']
)  # fmt: skip
def test_json_may_be_said_in_all_its_ways(kind):
    answer = post(served(), {"a": "ü"}, HOST, ("content-type", kind))
    assert (answer.status, answer.json) == (200, {"a": "ü"})


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"1", b"null", b'"x"', b'{"a":1,"a":2}', b'{"a":NaN}', b'{"a":1e999}',
     b'{"a":"\xff"}', b'\xef\xbb\xbf{"a":1}', '{"a":1}'.encode("utf-16"), b'{"a":"\\ud800"}',
     b'{"\\udc00":1}', b'{"a":[{"b":"\\ud83d"}]}', b'{"a":' + b"[" * 70 + b"]" * 70 + b"}",
     b"[" * 100_000, b'{"a":' + b"9" * 5000 + b"}", b'{"a":1} x'],
    ids=lambda content: repr(content[:20]),
)  # fmt: skip
def test_a_body_that_is_no_object_of_plain_json_is_400(content):
    answer = post(served(), content)
    assert (answer.status, is_refusal(answer)) == (400, True)
    assert len(answer.body) < 1000


def test_a_whole_surrogate_pair_is_a_character():
    assert post(served(), b'{"a":"\\ud83d\\ude00"}').json == {"a": "😀"}


@pytest.mark.parametrize("said", [True, False])
def test_a_body_that_is_too_large_is_413(said):
    app = served(limits=Limits(body_bytes=100))
    length = [("content-length", "101")] if said else []
    answer = post(app, b'{"a":"' + b"x" * 100 + b'"}', *JSON_HEADERS, *length)
    assert (answer.status, is_refusal(answer)) == (413, True)
    assert answer.head["connection"] == "close"
    assert post(app, b'{"a":"' + b"x" * 92 + b'"}', *JSON_HEADERS).status == 200
    get_it = ask(app, "/v1/models", method="GET", headers=[HOST, *length])
    assert get_it.status == (413 if said else 200)


def test_a_body_that_does_not_come_is_408_and_one_that_breaks_off_nothing():
    app = served(limits=Limits(body_s=0.05))
    answer = ask(app, "/v1/echo", None)
    assert (answer.status, is_refusal(answer)) == (408, True)

    async def run():
        call = Call("/v1/echo", None)
        task = asyncio.ensure_future(call.serve(served()))
        await asyncio.sleep(0.01)
        call.leave()
        return await asyncio.wait_for(task, 10)

    assert asyncio.run(run()).status == 0


# Answers


def test_paths_and_methods_that_are_not_here_have_the_shape_of_all_refusals():
    app = served()
    assert (get(app, HOST, path="/none").status, get(app, HOST, path="/v1/echo").status) == (
        404, 405,
    )  # fmt: skip
    for answer in (
        get(app, HOST, path="/none"),
        get(app, HOST, path="/v1/echo"),
        post(app, b"", HOST, path="/none"),
        post(app, b"", HOST, path="/v1/models"),
    ):
        assert answer.status in (404, 405)
        assert is_refusal(answer)


def test_an_unexpected_error_is_500_told_by_its_id_and_logged_once(caplog):
    with caplog.at_level(logging.ERROR):
        answer = get(served(), HOST, path="/fails")
    assert (answer.status, is_refusal(answer)) == (500, True)
    assert b"secret" not in answer.body
    assert answer.head["x-request-id"] in answer.json["detail"]
    logged = [record for record in caplog.records if record.exc_info]
    assert len(logged) == 1
    assert answer.head["x-request-id"] in logged[0].getMessage()


def test_an_application_that_fails_outside_of_its_routes_is_answered_too(caplog):
    async def app(scope, receive, send):
        raise RuntimeError

    answer = get(front(app, Settings()), HOST)
    assert (answer.status, is_refusal(answer)) == (500, True)


@pytest.mark.parametrize(
    ("given", "kept"),
    [(["a-1._B"], True), (["x" * 64], True), (["x" * 65], False), (["a b"], False), ([""], False),
     (["a\r\nb"], False), (["a", "b"], False), ([], False)],
)  # fmt: skip
def test_a_request_keeps_its_id_if_it_is_one(given, kept):
    answer = get(served(), HOST, *[("x-request-id", each) for each in given])
    got = answer.head["x-request-id"]
    assert (got == given[0]) if kept else (len(got) == 36 and got not in given)


def test_all_answers_carry_the_headers_of_safety():
    app = served(keys=(KEY,))
    for answer in (
        get(app, HOST), get(app), get(app, HOST, path="/health"),
        get(app, HOST, ("x-api-key", KEY), path="/fails"),
    ):  # fmt: skip
        assert answer.head["x-content-type-options"] == "nosniff"
        assert answer.head["cache-control"] == "no-store"
        assert answer.head["x-request-id"]


def test_a_web_socket_is_closed():
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(served()({"type": "websocket", "headers": []}, None, send))
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_every_answer_is_counted_once_where_nobody_else_has():
    metrics = Refused()
    app = served(metrics)
    assert post(app, {"a": 1}).status == 200
    assert post(app, {"a": 1}, path="/nowhere").status == 404
    assert get(app, ("host", "evil.example")).status == 403
    assert [status for _, status, _ in metrics.answers] == [200, 404, 403]


def test_a_log_of_requests_names_routes_and_no_token(caplog):
    app = FastAPI()

    @app.get("/v1/emotions/streams/{token}")
    def stream(token: str) -> dict[str, str]:
        return {}

    with caplog.at_level("INFO", "emokernel.serve.front.guard"):
        own = ("host", "localhost"), ("x-request-id", "id-1")
        get(front(app, Settings()), *own, path="/v1/emotions/streams/a-secret")
    (told,) = (record.getMessage() for record in caplog.records)
    assert told.startswith("id-1 GET /v1/emotions/streams/{token} 200 ")
    assert "a-secret" not in told
