"""What a replay remembers of itself between two starts."""

from pathlib import Path

from danbao_local.replay.journal import JOURNAL_FILE, Journal
from danbao_local.replay.record import CaseRecord, OrderRecord, TopUpRecord, TradeRecord
from danbao_local.replay.state import Identity, prepare


def _record() -> OrderRecord:
    return OrderRecord(
        trades={
            "s1": TradeRecord(name="trades/1", paid=True, cases={"1": CaseRecord("refundCases/1", "disputes/1")}),
            "s2": TradeRecord(refusal="LIMIT_EXCEEDED"),
        },
        top_ups=[TopUpRecord("topUps/1", 500, 20)],
        refusals=["ShipLines: TRADE_STATE_INVALID"],
    )


def _write(folder: Path) -> None:
    journal = Journal(folder)
    journal.open()
    journal.add(steps=1, seconds=0.5, changed={3: OrderRecord()})
    journal.add(steps=2, seconds=1.25, changed={3: _record()})
    journal.add_ranking([{"subject": "subjects/a"}])
    journal.close()


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    _write(tmp_path)
    progress = Journal(tmp_path).open()
    assert (progress.steps, progress.seconds) == (2, 1.25)
    assert progress.records == {3: _record()}
    assert progress.ranking == [{"subject": "subjects/a"}]


def test_a_line_that_was_cut_off_is_forgotten_and_written_over(tmp_path: Path) -> None:
    _write(tmp_path)
    path = tmp_path / JOURNAL_FILE
    path.write_bytes(path.read_bytes() + b'{"steps":3,"seco')
    journal = Journal(tmp_path)
    assert journal.open().steps == 2
    journal.add(steps=3, seconds=2.0, changed={})
    journal.close()
    assert Journal(tmp_path).open().steps == 3


def test_another_replay_begins_anew_and_the_same_one_goes_on(tmp_path: Path) -> None:
    said: list[str] = []
    mine = Identity(orders="a", limit=None, step_seconds=60)
    prepare(tmp_path, mine, fresh=False, say=said.append)
    _write(tmp_path)
    prepare(tmp_path, mine, fresh=False, say=said.append)
    assert (tmp_path / JOURNAL_FILE).exists()
    prepare(tmp_path, Identity(orders="a", limit=5, step_seconds=60), fresh=False, say=said.append)
    assert not (tmp_path / JOURNAL_FILE).exists()
