"""What Prometheus reads, by the parser of its own client."""

from __future__ import annotations

import threading
import time
import timeit

import pytest

pytest.importorskip("prometheus_client", reason="pip install 'emokernel[serve]'")

from prometheus_client.parser import text_string_to_metric_families

from emokernel.serve.front import errors
from emokernel.serve.metrics import ENDPOINTS, REASONS, Metrics


def read(metrics):
    """{(name, its labels as sorted pairs): value} of every sample."""
    families = text_string_to_metric_families(metrics.text().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def labels(**given):
    return tuple(sorted(given.items()))


def test_everything_that_is_watched_is_there_before_the_first_request():
    found = read(Metrics())
    for steered in ("true", "false"):
        for name in ("generated_tokens_total", "prompt_tokens_total"):
            assert found["emokernel_" + name, labels(steered=steered)] == 0
        for name in ("time_to_first_token_seconds", "time_per_token_seconds"):
            assert found[f"emokernel_{name}_count", labels(steered=steered)] == 0
    for name in ("slots", "slots_in_use", "requests_running", "requests_waiting", "hang_ups_total"):
        assert found["emokernel_" + name, ()] == 0
    assert {("emokernel_refused_total", labels(reason=reason)) for reason in REASONS} <= set(found)
    assert found["process_resident_memory_bytes", ()] > 1e6


def test_requests_are_counted_by_endpoint_status_and_whether_steered():
    metrics = Metrics()
    for _ in range(3):
        metrics.request("/v1/completions", 200, True)
    metrics.request("/v1/completions", 429, False)
    found = read(metrics)
    name = "emokernel_requests_total"
    assert found[name, labels(endpoint="/v1/completions", status="200", steered="true")] == 3
    assert found[name, labels(endpoint="/v1/completions", status="429", steered="false")] == 1


def test_what_clients_choose_makes_no_label():
    metrics = Metrics()
    for number in range(500):
        metrics.request(f"/v1/emotions/streams/{number}", 200, True)
        metrics.request(f"/{number}", 404, False)
        metrics.request("/v1/models", 1000 + number, False)
        metrics.refused(f"reason {number}")
    found = read(metrics)
    requests = {key: value for key, value in found.items() if key[0] == "emokernel_requests_total"}
    stream = labels(endpoint="/v1/emotions/streams/{token}", status="200", steered="true")
    other = labels(endpoint="other", status="404", steered="false")
    odd = labels(endpoint="/v1/models", status="other", steered="false")
    assert requests == {("emokernel_requests_total", key): 500 for key in (stream, other, odd)}
    assert found["emokernel_refused_total", labels(reason="other")] == 500
    assert dict(stream)["endpoint"] in ENDPOINTS


@pytest.mark.parametrize("steered", [True, False])
def test_the_first_token_and_the_others_are_timed_apart(steered, monkeypatch):
    clock = iter([10.0, 10.4, 10.41, 10.43])  # begun; three tokens
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    metrics = Metrics()
    timing = metrics.begun(steered)
    for _ in range(3):
        timing.token()
    assert timing.tokens == 3
    found, told = read(metrics), {"steered": str(steered).lower()}
    first, following = "emokernel_time_to_first_token_seconds", "emokernel_time_per_token_seconds"
    assert found[first + "_sum", labels(**told)] == pytest.approx(0.4)
    assert found[following + "_sum", labels(**told)] == pytest.approx(0.03)
    assert found[first + "_bucket", labels(le="0.3", **told)] == 0
    assert found[first + "_bucket", labels(le="0.5", **told)] == 1
    assert found[following + "_bucket", labels(le="0.015", **told)] == 1
    assert found[following + "_bucket", labels(le="0.03", **told)] == 2
    assert found[following + "_bucket", labels(le="+Inf", **told)] == 2
    assert found["emokernel_generated_tokens_total", labels(**told)] == 3
    others = {"steered": str(not steered).lower()}
    assert found["emokernel_generated_tokens_total", labels(**others)] == 0


def test_threads_lose_no_token():
    metrics, each = Metrics(), 2000

    def generate():
        timing = metrics.begun(True)
        for _ in range(each):
            timing.token()

    threads = [threading.Thread(target=generate) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read(metrics)["emokernel_generated_tokens_total", labels(steered="true")] == 8 * each


def test_what_is_watched_is_asked_when_it_is_read():
    metrics, now = Metrics(), {"slots_in_use": 3, "slots": 256, "running": 2, "waiting": 7}
    metrics.watch(**{name: lambda name=name: now[name] for name in now})
    assert read(metrics)["emokernel_slots_in_use", ()] == 3
    assert read(metrics)["emokernel_slots", ()] == 256
    now["running"], now["waiting"] = 5, 0
    assert read(metrics)["emokernel_requests_running", ()] == 5
    assert read(metrics)["emokernel_requests_waiting", ()] == 0


def test_prompts_hang_ups_and_refusals_are_counted():
    metrics = Metrics()
    metrics.prompt_tokens(40, False)
    metrics.prompt_tokens(2, True)
    metrics.hang_up()
    metrics.refused("busy")
    found = read(metrics)
    assert found["emokernel_prompt_tokens_total", labels(steered="false")] == 40
    assert found["emokernel_prompt_tokens_total", labels(steered="true")] == 2
    assert found["emokernel_hang_ups_total", ()] == 1
    assert found["emokernel_refused_total", labels(reason="busy")] == 1


def test_two_servers_in_a_process_count_apart():
    one, other = Metrics(), Metrics()
    one.hang_up()
    assert read(one)["emokernel_hang_ups_total", ()] == 1
    assert read(other)["emokernel_hang_ups_total", ()] == 0


def test_a_token_costs_little():
    """Hundreds of them a second are not felt; the best of some, since others use the machine."""
    timing = Metrics().begun(True)
    assert min(timeit.repeat(timing.token, number=20_000, repeat=5)) / 20_000 < 2e-5


def test_every_reason_of_a_refusal_is_known():
    def below(kind):
        return {kind, *(each for inner in kind.__subclasses__() for each in below(inner))}

    assert {each.reason for each in below(errors.RefusedError)} | {"slots"} == set(REASONS)
