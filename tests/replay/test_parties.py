"""What the replay makes up beside the files is what it would be in earnest."""

from uuid import UUID

from danbao_kit.card_numbers import holds_card_number
from danbao_local.replay.parties import tracking_of


def test_no_parcel_is_called_like_a_payment_card():
    names = [tracking_of(f"order {number}", "seller", way) for number in range(10_000) for way in ("", " back")]
    assert len({UUID(name) for name in names}) == len(names)
    assert not [name for name in names if holds_card_number(f"parcel {name}")]
    assert any(holds_card_number(f"parcel {name[:18]}") for name in names), "else any name would do"
