from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.engine.small.drafts import Drafts
from agent.engine.small.recogniser import Heard, Segment

S = 16_000


def heard(*segments: tuple[str, float]) -> Heard:
    parts = tuple(Segment(text, int(end_s * S)) for text, end_s in segments)
    return Heard(" ".join(part.text for part in parts), segments=parts)


def test_what_two_drafts_write_alike_is_settled_but_never_the_last_segment():
    drafts = Drafts()
    drafts.take(heard(("One.", 5.0), ("Two", 7.0)), 0)
    assert (drafts.samples, drafts.text) == (0, "")
    drafts.take(heard(("One.", 5.2), ("Two and", 8.0)), 0)
    assert (drafts.samples, drafts.text) == (int(5.2 * S), "One.")
    # From here on drafts begin there.
    drafts.take(heard(("Two and three.", 4.0), ("Four", 6.8)), int(5.2 * S))
    drafts.take(heard(("Two and three.", 4.0), ("Four.", 6.9)), int(5.2 * S))
    assert (drafts.samples, drafts.text) == (int(5.2 * S) + 4 * S, "One. Two and three.")


def test_nothing_is_settled_of_a_short_clip_or_where_drafts_differ():
    drafts = Drafts()
    for segments in (
        [("One.", 2.0), ("Two", 3.0)],
        [("One.", 2.0), ("Two.", 4.0)],
        [("Won.", 2.0), ("Two.", 4.0), ("Three", 7.0)],
        [("Won.", 2.6), ("Two.", 4.0), ("Three", 8.0)],
        [],
        [("Won.", 2.6), ("Two.", 4.0), ("Three", 8.0)],
    ):
        drafts.take(heard(*segments), 0)
        assert drafts.samples == 0


def test_a_draft_that_began_before_something_was_settled_does_not_count():
    drafts = Drafts()
    for _ in range(2):
        drafts.take(heard(("One.", 5.0), ("Two", 7.0)), 0)
    for _ in range(3):
        drafts.take(heard(("One.", 5.0), ("Two.", 7.0), ("Three", 9.0)), 0)
    assert (drafts.samples, drafts.text) == (5 * S, "One.")


ends = st.lists(st.floats(0.1, 9), max_size=4, unique=True).map(sorted)
drawn = st.lists(
    st.tuples(ends, st.lists(st.sampled_from("ab"), min_size=4, max_size=4)), max_size=12
)


@given(drafts=drawn)
def test_settling_only_moves_on_and_stays_before_the_last_segment(drafts):
    settled = Drafts()
    for times, texts in drafts:
        start, text = settled.samples, settled.text
        settled.take(heard(*zip(texts, times, strict=False)), start)
        assert settled.samples >= start
        assert settled.text.startswith(text)
        if settled.samples > start:
            assert settled.samples < start + int(times[-1] * S)
