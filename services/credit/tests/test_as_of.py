"""Which moments a read may ask for."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from danbao.credit.v1 import credit_pb2
from danbao_credit.rpc.history import as_of
from danbao_kit.call import Call
from danbao_kit.errors import FieldInvalid

CALL = Call(method="", peer="gateway")


def test_a_moment_is_read_and_may_be_left_out():
    asked = credit_pb2.GetProfileRequest(subject="subjects/a", as_of=Timestamp(seconds=1_764_405_253))
    assert as_of(asked, CALL).moment.timestamp() == 1_764_405_253
    assert as_of(credit_pb2.GetProfileRequest(subject="subjects/a"), CALL).moment is None


@pytest.mark.parametrize("stamp", [Timestamp(seconds=10**15), Timestamp(seconds=-(10**15)), Timestamp(nanos=-1)])
def test_a_moment_that_no_calendar_has_is_the_caller_s_fault(stamp):
    with pytest.raises(FieldInvalid) as refused:
        as_of(credit_pb2.GetProfileRequest(subject="subjects/a", as_of=stamp), CALL)
    assert [each.field for each in refused.value.fields] == ["as_of"]
