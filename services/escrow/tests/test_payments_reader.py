"""The reader of payments' events: what is none of escrow's costs no commit, and is read again rather than lost."""

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from danbao.payments.v1 import event_pb2
from danbao_escrow.domain.payment_events import Facts, PaymentMovement, StreamGap
from danbao_escrow.workers.payments_reader import Follower
from danbao_kit.group_commit import Outcome


class Writes:
    """Takes down which commands were written; refuses the next one if told so."""

    def __init__(self):
        self.ranges = []
        self.movements = []
        self.refuse = None

    async def submit(self, submission):
        error, self.refuse = self.refuse, None
        if error is None:
            self.ranges.append((submission.command.after, submission.command.through))
            self.movements += [each.event_sequence for each in submission.command.movements]
        return Outcome(error=error)


class Events:
    """Every hundredth event moves money of a trade."""

    async def read(self, event):
        if event.sequence % 100:
            return Facts()
        movement = PaymentMovement(
            event_sequence=event.sequence,
            trade_id=uuid4(),
            reference="transactions/1",
            payment="payments/1",
            kind="payment_captured",
            step=1,
            currency="CNY",
            in_minor=5,
            out_minor=0,
            create_time=datetime(2026, 1, 1, tzinfo=UTC),
        )
        return Facts(movements=[movement])


def chunk(*sequences):
    message = event_pb2.WatchEventsResponse(events=[event_pb2.Event(sequence=each) for each in sequences])
    message.cursor.sequence = sequences[-1]
    return message


@pytest.fixture
def writes():
    return Writes()


def follower_of(writes, cursor_alone_s):
    return Follower(Events(), writes, cursor_alone_s=cursor_alone_s)


async def test_of_many_chunks_that_concern_no_trade_the_first_and_then_the_cursor_alone_are_written(writes):
    follower = follower_of(writes, 0.05)
    for sequence in range(1, 50):
        await follower.apply(chunk(sequence), sequence - 1)
    assert writes.ranges[0] == (0, 1)
    assert len(writes.ranges) < 10
    async with asyncio.timeout(5):
        while writes.ranges[-1][1] < 49:
            await asyncio.sleep(0.01)
    assert all(before[1] == after[0] for before, after in zip(writes.ranges, writes.ranges[1:], strict=False))


async def test_a_movement_is_written_at_once_with_all_that_was_passed_over_before_it(writes):
    follower = follower_of(writes, 60)
    await follower.apply(chunk(98), 0)
    await follower.apply(chunk(99), 98)
    await follower.apply(chunk(100), 99)
    await follower.apply(chunk(101), 100)
    assert writes.ranges == [(0, 98), (98, 100)]
    assert writes.movements == [100]
    follower.stop()


async def test_after_a_gap_the_reader_begins_where_the_store_says(writes):
    follower = follower_of(writes, 60)
    await follower.apply(chunk(1), 0)
    writes.refuse = StreamGap(applied=0, after=1)
    with pytest.raises(StreamGap):
        await follower.apply(chunk(100), 1)
    await follower.apply(chunk(1, 2, 100), 0)
    assert writes.ranges == [(0, 1), (0, 100)]
    assert writes.movements == [100]


async def test_a_chunk_that_is_read_again_is_written_again(writes):
    """What was passed over and not written is before the stored cursor's next; the command finds what is new of it."""
    follower = follower_of(writes, 60)
    await follower.apply(chunk(1), 0)
    await follower.apply(chunk(2), 1)
    await follower.apply(chunk(2, 100), 1)
    assert writes.ranges == [(0, 1), (1, 100)]
    follower.stop()


async def test_stopped_it_writes_no_more(writes):
    follower = follower_of(writes, 0.05)
    await follower.apply(chunk(1), 0)
    await follower.apply(chunk(2), 1)
    follower.stop()
    await asyncio.sleep(0.1)
    assert writes.ranges == [(0, 1)]
