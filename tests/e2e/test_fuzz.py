"""Five thousand requests made wrong from the contracts: each is refused in our words, the books stay as they are."""

import asyncio

import pytest

from danbao_gateway.contracts import Contracts
from danbao_local.fuzz import report
from danbao_local.fuzz.making import FAMILIES
from danbao_local.fuzz.run import Fuzzer, still_stack

REQUESTS = 5_000
SEED = 1

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory):
    """On a stack of its own: what is accepted freezes accounts, erases subjects and promotes models."""
    with still_stack(tmp_path_factory.mktemp("fuzzed")) as stack:
        made = Fuzzer(stack, SEED)
        made.prepare()
        yield made


@pytest.fixture(scope="module")
def result(fuzzer):
    return asyncio.run(fuzzer.run(REQUESTS))


def test_no_request_finds_a_fault_a_leak_or_a_way_to_the_books(result):
    assert not result.failures, "\n".join(report.told(failure, seed=SEED) for failure in result.failures)
    assert result.sent == REQUESTS


def test_every_rpc_was_asked_in_every_family(result):
    rpcs = {method.full_name for method in Contracts.installed().methods() if method.package != "danbao.testing.v1"}
    assert {rpc for rpc, _ in result.codes} == rpcs
    assert {family for family, _ in result.families} == set(FAMILIES)


def test_requests_get_deep(result):
    """What is refused at the door only says nothing of what lies behind it."""
    accepted = sum(number for (_, code), number in result.codes.items() if code == "OK")
    by_state = sum(number for (_, code), number in result.codes.items() if code == "FAILED_PRECONDITION")
    assert accepted > REQUESTS / 20
    assert by_state > REQUESTS / 100


def test_what_was_refused_is_refused_again_and_moves_nothing(result):
    assert result.still_requests > 0


def test_a_request_from_a_file_is_sent_again_with_the_names_of_this_stack(fuzzer, result, tmp_path):
    attempt = next(item for item in map(fuzzer.maker().attempt, range(100)) if item.family == "mutated")
    failed = report.Failure("as if", attempt)
    (path,) = report.write_failures(report.FuzzResult(failures=[failed]), fuzzer.places, tmp_path / "failures")
    answer, wrong = asyncio.run(fuzzer.again(*report.read_failure(path)))
    assert answer.code != "NOT SENT"
    assert wrong == []
