"""What the rights of those who are scored can be refused with.

SubjectNotFound        NOT_FOUND            not a subject that the caller may know of
RoleNotAllowed         PERMISSION_DENIED    not as this caller; nobody decides their own case
ConsentMissing         PERMISSION_DENIED    the purpose needs a consent that does not stand
ConsentNotFound        NOT_FOUND            missing or foreign
ConsentEnded           FAILED_PRECONDITION  it does not stand any more
AppealNotFound         NOT_FOUND            missing or foreign
AppealStateInvalid     FAILED_PRECONDITION  not legal in this state
AppealTargetNotFound   FAILED_PRECONDITION  nothing of the kind is held against the subject
AppealOpen             FAILED_PRECONDITION  an appeal against the same is open
AppealsExhausted       FAILED_PRECONDITION  a third appeal against the same
NewEvidenceMissing     FAILED_PRECONDITION  a second appeal with the first one's evidence
AppealEffectMissing    FAILED_PRECONDITION  upheld without anything that could be taken back
ErasureRefused         FAILED_PRECONDITION  something still stands open
ReplyErased            ALREADY_EXISTS       (recorded) the answer was erased with its subject
"""

from __future__ import annotations

from collections.abc import Iterable

from danbao_kit.errors import Code, DanbaoError


class SubjectNotFound(DanbaoError):
    code, reason, recorded = Code.NOT_FOUND, "SUBJECT_NOT_FOUND", False

    def __init__(self, subject: str) -> None:
        super().__init__(f"there is no {subject}", subject=subject)


class RoleNotAllowed(DanbaoError):
    code, reason = Code.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"

    def __init__(self, command: str, allowed: str) -> None:
        super().__init__(f"{command} is for {allowed}", command=command, allowed=allowed)


class ConsentMissing(DanbaoError):
    # Not recorded: with a consent the same request is allowed.
    code, reason, recorded = Code.PERMISSION_DENIED, "CONSENT_MISSING", False

    def __init__(self, subject: str, purpose: str, partner: str) -> None:
        whom = f"partner {partner}" if partner else "all"
        super().__init__(
            f"{subject} has granted {whom} no consent for {purpose}", subject=subject, purpose=purpose, partner=partner
        )


class ConsentNotFound(DanbaoError):
    code, reason = Code.NOT_FOUND, "CONSENT_NOT_FOUND"

    def __init__(self, consent: str) -> None:
        super().__init__(f"there is no {consent}", consent=consent)


class ConsentEnded(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "CONSENT_ENDED"

    def __init__(self, consent: str, state: str) -> None:
        super().__init__(f"{consent} is {state}", consent=consent, state=state)


class AppealNotFound(DanbaoError):
    code, reason = Code.NOT_FOUND, "APPEAL_NOT_FOUND"

    def __init__(self, appeal: str) -> None:
        super().__init__(f"there is no {appeal}", appeal=appeal)


class AppealStateInvalid(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "APPEAL_STATE_INVALID"

    def __init__(self, appeal: str, command: str, state: str, legal: Iterable[str]) -> None:
        super().__init__(
            f"{command} is not legal for {appeal} in {state}",
            appeal=appeal,
            command=command,
            state=state,
            legal_commands=",".join(legal),
        )


class AppealTargetNotFound(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "APPEAL_TARGET_NOT_FOUND"

    def __init__(self, subject: str, target: str) -> None:
        super().__init__(f"{target} is not held against {subject}", subject=subject, target=target)


class AppealOpen(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "APPEAL_OPEN"

    def __init__(self, appeal: str, target: str) -> None:
        super().__init__(f"{appeal} against {target} is open", appeal=appeal, target=target)


class AppealsExhausted(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "APPEALS_EXHAUSTED"

    def __init__(self, target: str, most: int) -> None:
        super().__init__(
            f"there were {most} appeals against {target}; there is no further one", target=target, most=most
        )


class NewEvidenceMissing(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "NEW_EVIDENCE_MISSING"

    def __init__(self, target: str) -> None:
        super().__init__(f"a second appeal against {target} needs evidence that the first did not have", target=target)


class AppealEffectMissing(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "APPEAL_EFFECT_MISSING"

    def __init__(self, appeal: str, why: str) -> None:
        super().__init__(f"upholding {appeal} would take nothing back: {why}", appeal=appeal, why=why)


class ErasureRefused(DanbaoError):
    # Not recorded: when what stands open has ended, the same request may go through.
    code, reason, recorded = Code.FAILED_PRECONDITION, "ERASURE_REFUSED", False

    def __init__(self, subject: str, because: str, about: str) -> None:
        super().__init__(f"{subject} cannot be erased while {about}", subject=subject, because=because)


class ReplyErased(DanbaoError):
    code, reason = Code.ALREADY_EXISTS, "REPLY_ERASED"

    def __init__(self) -> None:
        super().__init__("the answer to this request was erased with its subject; it is not executed again")
