"""Random conversations against a fresh full prefill by transformers."""

from __future__ import annotations

import asyncio
import itertools
import os
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from agent.audio.pcm import encode_pcm16  # noqa: E402
from agent.engine.branches import BranchKind, BranchRequest, FinishReason, Limits  # noqa: E402
from agent.engine.contract import Branch, Conversation, ConversationSettings  # noqa: E402
from agent.engine.items import Item, Role, Text  # noqa: E402
from agent.engine.stream import BranchStream  # noqa: E402
from tests.helpers.gemma_engine import (  # noqa: E402
    ManualEngine,
    Turn,
    check_greedy,
    prompt_of,
    read,
    record_tokens,
)
from tests.helpers.noise import noise  # noqa: E402

torch.set_num_threads(1)
GREEDY = Limits(max_output_tokens=6, temperature=0)
TALKERS = st.integers(0, 2)
SPEECH = noise(480_000, 3)
SIZES = st.one_of(
    st.integers(1, 60_000),
    st.builds(lambda k, off: 640 * k + off, st.integers(1, 30), st.integers(-1, 1)),
)


@dataclass
class Asked:
    """A branch and what it must answer to."""

    branch: Branch
    turns: list[Turn]
    instructions: str
    cancelled: bool = False


@dataclass
class Talker:
    """One conversation and what it must be."""

    conversation: Conversation
    instructions: str
    items: list[tuple[str, Turn]] = field(default_factory=list)
    clips: list[np.ndarray] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    @property
    def is_hearing(self) -> bool:
        return any(len(clip) for clip in self.clips)

    def turns(self, *, with_open: bool = False) -> list[Turn]:
        turns = [turn for _, turn in self.items]
        if with_open and self.is_hearing:
            turns.append(("user", self.open_clips))
        return turns

    @property
    def open_clips(self) -> list[bytes]:
        return [encode_pcm16(clip) for clip in self.clips if len(clip)]

    def place(self, after: str | None) -> int:
        ids = [item_id for item_id, _ in self.items]
        return ids.index(after) + 1 if after in ids else len(ids)


class Conversations(RuleBasedStateMachine):
    """Three conversations of one engine with few places."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.names = itertools.count()
        self.at = 0

    def run(self, work) -> object:
        return self.runner.run(work)

    @initialize(slots=st.sampled_from([6, 8]), soft_mib=st.sampled_from([0, 64]))
    def start(self, slots: int, soft_mib: int) -> None:
        async def begin() -> None:
            self.engine = ManualEngine(slots=slots, soft_cache_mib=soft_mib)
            await self.engine.start()
            self.talkers = [
                Talker(self.engine.open(ConversationSettings(f"You are {n}.")), f"You are {n}.")
                for n in range(3)
            ]

        self.run(begin())

    def call(self, act) -> object:
        """Make a call inside the loop."""

        async def do() -> object:
            result = act()
            await asyncio.sleep(0)
            return result

        return self.run(do())

    @rule(rounds=st.integers(1, 8))
    def go_on(self, rounds: int) -> None:
        self.call(lambda: [self.engine.round() for _ in range(rounds)])

    @rule()
    def rest(self) -> None:
        self.run(self.engine.settle())

    @rule(who=TALKERS, samples=SIZES)
    def hear(self, who: int, samples: int) -> None:
        talker = self.talkers[who]
        samples = min(samples, 250_000 - sum(map(len, talker.clips)))
        if samples <= 0:
            return
        speech = SPEECH[self.at : self.at + samples]
        self.at = (self.at + samples) % 300_000
        self.call(lambda: talker.conversation.hear(speech))
        last = talker.clips.pop() if talker.clips else np.zeros(0, np.float32)
        talker.clips.append(np.concatenate([last, speech]))

    @rule(who=TALKERS, share=st.floats(0, 1))
    def cut(self, who: int, share: float) -> None:
        talker = self.talkers[who]
        if not talker.clips or not len(talker.clips[-1]) or len(talker.clips) > 3:
            return
        last = talker.clips.pop()
        keep = max(1, round(share * len(last)))
        self.call(lambda: talker.conversation.cut(keep))
        talker.clips += [last[:keep], last[keep:]]
        for asked in talker.asked:
            asked.cancelled = True  # an early answer over it may be refused
        self.drop_all(talker)

    def drop_all(self, talker: Talker) -> None:
        for asked in talker.asked:
            self.call(asked.branch.cancel)
        talker.asked.clear()

    @rule(who=TALKERS)
    def forget(self, who: int) -> None:
        self.call(self.talkers[who].conversation.forget)
        self.talkers[who].clips.clear()

    @rule(who=TALKERS)
    def commit(self, who: int) -> None:
        talker = self.talkers[who]
        if not talker.is_hearing:
            return
        name = f"u{next(self.names)}"
        self.call(lambda: talker.conversation.commit(name))
        talker.items.append((name, ("user", talker.open_clips)))
        talker.clips = []

    @rule(who=TALKERS, with_open=st.booleans(), own=st.booleans())
    def ask(self, who: int, with_open: bool, own: bool) -> None:
        talker = self.talkers[who]
        if len(talker.asked) >= 2:
            return
        instructions = "Rhyme." if own else None
        request = BranchRequest(
            BranchKind.ANSWER, instructions=instructions, include_open=with_open, limits=GREEDY
        )
        branch = self.call(lambda: talker.conversation.branch(request))
        assert isinstance(branch, BranchStream)
        turns = talker.turns(with_open=with_open)
        talker.asked.append(Asked(branch, turns, instructions or talker.instructions))

    @rule(who=TALKERS, pick=st.integers(0, 1))
    def transcribe(self, who: int, pick: int) -> None:
        talker = self.talkers[who]
        spoken = [item_id for item_id, turn in talker.items if isinstance(turn[1], list)]
        if not spoken or len(talker.asked) >= 2:
            return
        request = BranchRequest(
            BranchKind.TRANSCRIPT, item_id=spoken[pick % len(spoken)], limits=GREEDY
        )
        branch = self.call(lambda: talker.conversation.branch(request))
        assert isinstance(branch, BranchStream)

        async def check() -> None:
            await self.engine.rest()
            got = await read(branch)
            assert got.error is None
            assert got.tokens

        self.run(check())

    @rule(who=TALKERS)
    def cancel(self, who: int) -> None:
        talker = self.talkers[who]
        if talker.asked:
            asked = talker.asked.pop()
            self.call(asked.branch.cancel)

    @rule(who=TALKERS, upto=st.integers(0, 8), last=st.booleans())
    def adopt(self, who: int, upto: int, last: bool) -> None:
        talker = self.talkers[who]
        if not talker.asked:
            return
        asked = talker.asked.pop()
        stream = asked.branch
        assert isinstance(stream, BranchStream)
        name = f"a{next(self.names)}"
        text = stream.text[:upto]
        after = None if last or not talker.items else talker.items[-1][0]
        self.call(lambda: talker.conversation.adopt(stream, name, upto, after))
        if text:
            talker.items.insert(talker.place(after), (name, ("assistant", text)))

    @rule(who=TALKERS, head=st.booleans())
    def insert(self, who: int, head: bool) -> None:
        talker = self.talkers[who]
        name = f"t{next(self.names)}"
        item = Item(name, Role.USER, (Text(f"This is {name}."),))
        self.call(lambda: talker.conversation.insert(item, head=head))
        talker.items.insert(0 if head else len(talker.items), (name, ("user", f"This is {name}.")))

    @rule(who=TALKERS, place=st.integers(0, 3))
    def delete(self, who: int, place: int) -> None:
        talker = self.talkers[who]
        if place < len(talker.items):
            name, _ = talker.items.pop(place)
            self.call(lambda: talker.conversation.delete(name))

    @rule(who=TALKERS, place=st.integers(0, 3), upto=st.integers(1, 3))
    def truncate(self, who: int, place: int, upto: int) -> None:
        talker = self.talkers[who]
        if place < len(talker.items):
            name, (role, content) = talker.items[place]
            if isinstance(content, str):
                self.call(lambda: talker.conversation.truncate(name, upto))
                talker.items[place] = (name, (role, content[:upto]))

    @rule(who=TALKERS)
    def configure(self, who: int) -> None:
        talker = self.talkers[who]
        talker.instructions = f"Now be {next(self.names)}."
        self.call(lambda: talker.conversation.configure(ConversationSettings(talker.instructions)))

    @rule()
    def read_answers(self) -> None:
        async def check() -> None:
            await self.engine.rest()
            for talker in self.talkers:
                for asked in talker.asked:
                    got = await read(asked.branch)
                    assert got.error is None
                    assert got.done is not None
                    assert got.done.reason is not FinishReason.CANCELLED
                    check_greedy(prompt_of(asked.turns, asked.instructions), got.tokens)

        self.run(check())
        for talker in self.talkers:
            talker.asked.clear()

    @invariant()
    def slots_add_up(self) -> None:
        if not hasattr(self, "engine"):
            return
        shop = self.engine.shop
        cache = shop.residency.cache
        residents = shop.residency._residents
        assert cache.free_slots + len(residents) == cache.plan.slots
        for resident in residents:
            assert cache.length(resident.slot) == len(resident.held)
        marks = [one.mark.place for one in residents if one.mark is not None]
        assert len(marks) == len(set(marks))
        assert len(marks) + len(cache._free_snapshots) == cache.plan.snapshots
        ears = shop.device.ears._free
        assert len(ears) == len(set(ears))

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.read_answers()
            for who in range(3):
                self.ask(who, True, False)
            self.read_answers()

            async def close() -> None:
                for talker in self.talkers:
                    talker.conversation.close()
                await self.engine.rest()
                assert self.engine.shop.residency.cache.free_slots == self.engine.slots_planned
                assert self.engine.shop.device.ears.free == self.engine.slots_planned
                assert self.engine.shop.device.store.used_bytes == 0
                await self.engine.stop()

            self.run(close())
        self.runner.close()


@pytest.mark.slow
def test_any_conversation_is_what_its_items_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    record_tokens(monkeypatch.setattr)
    run_state_machine_as_test(
        Conversations,
        settings=settings(
            max_examples=int(os.environ.get("STATEFUL_EXAMPLES", "12")),
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate] if "STATEFUL_QUICK" in os.environ else list(Phase),
        ),
    )
