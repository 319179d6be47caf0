"""Sampling against transformers' own warpers, and its draws against their probabilities."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from transformers import GenerationConfig, LogitsProcessorList  # noqa: E402
from transformers.generation import (  # noqa: E402
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from agent.engine.branches import Limits  # noqa: E402
from agent.engine.gemma import sampling  # noqa: E402
from agent.engine.gemma.sampling import Sampler, SamplingParameters  # noqa: E402

VOCABULARY = 600
SAMPLER = Sampler(VOCABULARY, torch.device("cpu"))
GREEDY = SamplingParameters()


def some_logits(rows, seed=0, vocabulary=VOCABULARY):
    return 4 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed))


def probabilities(parameters, logits, prompt=()):
    """transformers' own distribution, float64[vocabulary]."""
    warpers = LogitsProcessorList()
    if parameters.repetition_penalty != 1:
        warpers.append(RepetitionPenaltyLogitsProcessor(parameters.repetition_penalty))
    if parameters.temperature != 1:
        warpers.append(TemperatureLogitsWarper(parameters.temperature))
    if parameters.top_k:
        warpers.append(TopKLogitsWarper(parameters.top_k))
    if parameters.top_p < 1:
        warpers.append(TopPLogitsWarper(parameters.top_p))
    ids = torch.tensor([list(prompt)], dtype=torch.int64)
    return warpers(ids, logits[None].clone())[0].double().softmax(0)


def draw(parameters, logits, count, prompt=(), first_seed=0):
    """`count` first tokens of as many seeds."""
    rows = [SAMPLER.begin(parameters, first_seed + n, prompt) for n in range(count)]
    return SAMPLER.sample(logits.expand(count, -1), rows)


def check_draws(chosen, expected):
    """No token outside the distribution, and a chi-square that one seed in 100,000 exceeds."""
    counts = torch.bincount(chosen, minlength=len(expected)).double()
    assert counts[expected == 0].sum() == 0
    wanted = expected * len(chosen)
    common = wanted >= 5
    cells = [(counts[i].item(), wanted[i].item()) for i in common.nonzero()[:, 0]]
    rare = (counts[~common].sum().item(), wanted[~common].sum().item())
    if rare[1] >= 5:
        cells.append(rare)
    freedom = len(cells) - 1
    if not freedom:
        return
    statistic = sum((got - want) ** 2 / want for got, want in cells)
    # Wilson and Hilferty's approximation of the quantile.
    bound = freedom * (1 - 2 / (9 * freedom) + 4.26 * math.sqrt(2 / (9 * freedom))) ** 3
    assert statistic < bound


PARAMETERS = [
    SamplingParameters(1.0),
    SamplingParameters(0.7),
    SamplingParameters(1.3, top_k=64, top_p=0.95),
    SamplingParameters(1.0, top_k=3),
    SamplingParameters(1.0, top_k=1),
    SamplingParameters(2.0, top_p=0.6),
    SamplingParameters(1.0, top_k=300, top_p=0.9),
    SamplingParameters(1.0, top_k=10_000),
    SamplingParameters(0.8, top_k=20, repetition_penalty=1.5),
    SamplingParameters(1.5, top_p=0.9, repetition_penalty=0.8),
    SamplingParameters(1.0, top_p=0.0),
]


@pytest.mark.parametrize("parameters", PARAMETERS, ids=str)
def test_draws_follow_the_distribution_of_transformers(monkeypatch, parameters):
    monkeypatch.setattr(sampling, "_LARGE_ROWS", 10_000)
    prompt = list(range(0, VOCABULARY, 3))
    for seed in (0, 1):
        logits = some_logits(1, seed)[0]
        expected = probabilities(parameters, logits, prompt)
        check_draws(draw(parameters, logits, 4000, prompt, 100_000 * seed), expected)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 1000),
    st.floats(0.1, 3),
    st.integers(0, 650),
    st.floats(0, 1),
    st.floats(0.5, 2),
)
def test_what_is_kept_is_what_transformers_keeps(seed, temperature, top_k, top_p, penalty):
    parameters = SamplingParameters(temperature, top_k, top_p, penalty)
    prompt = [1, 5, 599]
    logits = some_logits(1, seed)[0]
    kept = probabilities(parameters, logits, prompt) > 0
    # Noise that is drawn for the worst token wins only if that one was not left out.
    chosen = draw(parameters, logits, 8, prompt, seed)
    assert kept[chosen].all()


@pytest.mark.parametrize("top_k", [0, 5, 200])
@pytest.mark.parametrize("top_p", [0.3, 0.97, 1.0])
def test_no_token_is_left_out_that_transformers_keeps(monkeypatch, top_k, top_p):
    parameters = SamplingParameters(1.5, top_k, top_p)
    logits = some_logits(1, 3)[0]
    kept = (probabilities(parameters, logits) > 0).nonzero()[:, 0]
    found = []
    for token in kept.tolist():
        monkeypatch.setattr(
            sampling,
            "_gumbel",
            lambda key, tokens, token=token: torch.where(tokens == token, 1e9, 0.0).double(),
        )
        found += draw(parameters, logits, 1).tolist()
    assert found == kept.tolist()


def test_equal_scores_are_kept_together_as_in_transformers():
    parameters = SamplingParameters(1.0, top_k=2)
    logits = some_logits(1)[0].clamp(max=3)
    top = int((logits == 3).sum())
    assert top > 20
    expected = probabilities(parameters, logits)
    assert int((expected > 0).sum()) == top
    check_draws(draw(parameters, logits, 8000), expected)


def test_greedy_rows_are_exactly_the_best():
    logits = some_logits(64)
    logits[:, 7] = logits[:, 11] = 100.0
    rows = [SAMPLER.begin(GREEDY) for _ in range(64)]
    assert torch.equal(SAMPLER.sample(logits, rows), logits.argmax(1))
    rows[5] = SAMPLER.begin(SamplingParameters(1.0), 3)
    chosen = SAMPLER.sample(logits, rows)
    assert torch.equal(chosen[6:], logits.argmax(1)[6:])


def test_what_is_known_to_be_best_is_not_looked_for_again():
    best = torch.tensor([5, 6, 7])
    rows = [SAMPLER.begin(GREEDY), SAMPLER.begin(SamplingParameters(1.0), 3)]
    logits = some_logits(3)
    chosen = SAMPLER.sample(logits, rows, best)
    assert chosen[0] == 5
    assert chosen.shape == (2,)
    assert best.tolist() == [5, 6, 7]


def test_the_penalty_counts_what_was_chosen_too():
    parameters = SamplingParameters(repetition_penalty=3.0)
    logits = torch.full((1, VOCABULARY), -10.0)
    logits[0, :4] = torch.tensor([9.0, 8.0, 7.0, 6.0])
    before = logits.clone()
    rows = [SAMPLER.begin(parameters, prompt=[1, 1])]
    assert [int(SAMPLER.sample(logits, rows)) for _ in range(4)] == [0, 2, 3, 0]
    assert torch.equal(logits, before)
    negative = SAMPLER.begin(parameters, prompt=[0])
    assert int(SAMPLER.sample(torch.full((1, VOCABULARY), -1.0), [negative])) == 1


PARAMETER = st.sampled_from([GREEDY, SamplingParameters(repetition_penalty=1.3), *PARAMETERS])
ROW = st.tuples(PARAMETER, st.integers(-5, 1 << 64), st.integers(0, 5))


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=12), st.data())
def test_a_row_does_not_depend_on_its_neighbours(rows, data):
    def begun(row):
        parameters, seed, step = rows[row]
        draws = SAMPLER.begin(parameters, seed, [row])
        draws.step = step
        return draws

    logits = some_logits(len(rows), 9)
    order = data.draw(st.permutations(range(len(rows))))
    order = order[: data.draw(st.integers(1, len(rows)))]
    together = SAMPLER.sample(logits[order], [begun(row) for row in order])
    alone = [int(SAMPLER.sample(logits[row : row + 1], [begun(row)])) for row in order]
    assert together.tolist() == alone


def test_steps_and_seeds_give_draws_of_their_own():
    parameters, logits = SamplingParameters(1.0, top_k=64), torch.zeros(1, VOCABULARY)
    logits[0, :64] = 1.0
    expected = probabilities(parameters, logits[0])
    one, other = SAMPLER.begin(parameters, 1), SAMPLER.begin(parameters, 2)
    first = torch.cat([SAMPLER.sample(logits, [one]) for _ in range(4000)])
    second = torch.cat([SAMPLER.sample(logits, [other]) for _ in range(4000)])
    assert one.step == 4000
    check_draws(first, expected)
    check_draws(second, expected)
    # Independent: they meet once in 64 times, and so does a step with the next one.
    for here, there in ((first, second), (first[1:], first[:-1])):
        assert 30 < int((here == there).sum()) < 100
    again = SAMPLER.begin(parameters, 1)
    assert [int(SAMPLER.sample(logits, [again])) for _ in range(50)] == first[:50].tolist()


def test_a_branch_without_a_seed_gets_a_fresh_one():
    seeds = {SAMPLER.begin(GREEDY).seed for _ in range(50)}
    assert len(seeds) == 50


def test_impossible_tokens_are_never_drawn():
    logits = some_logits(1)
    logits[0, 5:] = -torch.inf
    for parameters in PARAMETERS:
        assert int(draw(parameters, logits[0], 40).max()) < 5


def test_defaults_come_from_the_checkpoint():
    of = SamplingParameters.of
    published = GenerationConfig(do_sample=True, temperature=1.0, top_k=64, top_p=0.95)
    assert of(published) == SamplingParameters(1.0, 64, 0.95, 1.0)
    assert of(GenerationConfig()) == GREEDY
    assert of(GenerationConfig(do_sample=False, top_k=64)) == GREEDY
    assert of(GenerationConfig(do_sample=True)) == SamplingParameters(1.0, 50, 1.0, 1.0)
    off = GenerationConfig(do_sample=True, top_k=0, repetition_penalty=1.1)
    assert of(off) == SamplingParameters(1.0, 0, 1.0, 1.1)


def test_a_branch_may_ask_for_its_temperature():
    own = SamplingParameters(1.0, 64, 0.95)
    assert own.under(Limits()) == own
    assert own.under(Limits(temperature=0.2)) == SamplingParameters(0.2, 64, 0.95)
    assert own.under(Limits(temperature=0)).greedy
