"""The registry of one server."""

from prometheus_client.parser import text_string_to_metric_families

from agent.metrics import Metrics


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    """A value as a scraper reads it."""
    for family in text_string_to_metric_families(metrics.render().decode()):
        for found in family.samples:
            if found.name == name and found.labels == labels:
                return float(found.value)
    return None


def test_two_servers_do_not_share_a_count():
    one, other = Metrics(), Metrics()
    one.turns.inc()
    assert sample(one, "voice_agent_turns_total") == 1
    assert sample(other, "voice_agent_turns_total") == 0


def test_labels_and_units_are_in_the_text():
    metrics = Metrics()
    metrics.sessions.labels("lost").inc()
    metrics.responses.labels("cancelled").inc(2)
    metrics.audio_received_s.inc(1.5)
    metrics.first_token_s.observe(0.7)
    assert sample(metrics, "voice_agent_sessions_total", outcome="lost") == 1
    assert sample(metrics, "voice_agent_responses_total", status="cancelled") == 2
    assert sample(metrics, "voice_agent_audio_received_seconds_total") == 1.5
    assert sample(metrics, "voice_agent_first_token_seconds_bucket", le="0.6") == 0
    assert sample(metrics, "voice_agent_first_token_seconds_bucket", le="0.8") == 1


def test_the_goal_for_loop_delay_is_a_bucket_border():
    metrics = Metrics()
    metrics.loop_delay_s.observe(0.051)
    assert sample(metrics, "voice_agent_event_loop_delay_seconds_bucket", le="0.05") == 0


def test_the_process_is_measured_too():
    resident = sample(Metrics(), "process_resident_memory_bytes")
    assert resident is not None
    assert resident > 1_000_000


def test_passes_are_counted_and_timed_by_what_they_are_for() -> None:
    metrics = Metrics()
    metrics.note_pass("caption", "ended", 0.5)
    metrics.note_pass("caption", "dropped", 9.0)
    text = metrics.render().decode()
    assert 'voice_agent_passes_total{outcome="ended",purpose="caption"} 1.0' in text
    assert 'voice_agent_passes_total{outcome="dropped",purpose="caption"} 1.0' in text
    assert 'voice_agent_pass_seconds_sum{purpose="caption"} 0.5' in text
