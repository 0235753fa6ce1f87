"""What is wrong with an answer, whatever was asked: bad input is refused in our words, in time, and told nothing."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from danbao_local.fuzz.attempt import REFUSED, Answer, Attempt

# Where the services run from: their Python and its packages, their code, the account's folder if it has one.
_PLACES = b"|".join(
    re.escape(os.fsencode(place))
    for place in (sys.prefix, f"{sys.base_prefix}/lib", f"{Path.cwd()}/", f"{Path.home()}/")
    if len(place) > len("//")
)
# Nothing that is sent contains these, so that an answer that does has them from our insides.
_LEAKS = re.compile(
    rb"Traceback|File \"|asyncpg|postgres|sqlalchemy|psycopg|protovalidate\.|grpc\._|\bSELECT \w|\bINSERT INTO\b"
    rb"|\bUPDATE \w+ SET\b|relation \"|column \"|constraint \"|unnest\(|site-packages|\.py\b"
    rb"|danbao_(kit|payments|escrow|credit|gateway)\b|object at 0x|Error\(|Exception\b|errno|" + _PLACES,
    re.IGNORECASE,
)
_OURS_TO_BLAME = {"INTERNAL", "UNKNOWN", "DATA_LOSS", "UNAVAILABLE", "500", "502", "503"}
_LATE_S = 12.0
# Refused by the client's library, or closed by whoever was flooded, or too garbled for HTTP: nobody of ours spoke.
_SILENT = {"NOT SENT", "CLOSED"}
# Envoy reads no further than such a request's first lines, and answers before any filter of ours.
_HTTP_ALONE = {"400", "404", "405", "408", "411", "413", "414", "417", "426", "431", "501"}
# At a service's own port its gRPC library refuses what is too large, before the service sees it and without a reason.
_OF_THE_LIBRARY = (b"larger than max", b"metadata size exceeds")


def faults(attempt: Attempt, answer: Answer) -> Iterator[str]:
    """Each in one line."""
    code = answer.code
    if code in _SILENT:
        return
    if code in _OURS_TO_BLAME:
        yield f"{code} is a fault of ours"
    elif not answer.reason and _needs_reason(attempt, answer):
        yield f"{code} without a reason"
    silent = code == "TIMEOUT" and attempt.server_streaming  # a stream may have nothing to say
    if not silent and (code == "TIMEOUT" or answer.seconds > _LATE_S):
        yield f"answered after {answer.seconds:.1f} s"
    if code == "DEADLINE_EXCEEDED" and attempt.door != "http" and attempt.timeout_s > 1:
        yield "not answered within the deadline"
    if attempt.family == REFUSED and answer.is_accepted:
        yield "accepted what nobody may"
    if code == "GARBLED":
        yield "no HTTP answer"
    leak = _LEAKS.search(answer.text)
    if leak is not None and not _was_sent(attempt, leak.group()):
        yield f"tells of our insides: {answer.text[max(0, leak.start() - 40) : leak.end() + 80]!r}"


def _needs_reason(attempt: Attempt, answer: Answer) -> bool:
    if answer.is_accepted or answer.code.startswith(("1", "3")):
        return False
    if answer.code.isdigit():
        return answer.code not in _HTTP_ALONE
    if attempt.door == "service" and any(words in answer.text for words in _OF_THE_LIBRARY):
        return False
    return answer.code not in ("DEADLINE_EXCEEDED", "CANCELLED", "TIMEOUT", "GARBLED")


def _was_sent(attempt: Attempt, leak: bytes) -> bool:
    return leak in attempt.http or any(leak in message for message in attempt.messages)
