"""What every read of a score goes through: is its purpose allowed, and for purposes by consent, is it recorded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from danbao_credit.application.consents import ReadForPurpose
from danbao_credit.domain.asker import Asker
from danbao_credit.domain.consent import Basis, Purpose, Purposes


@dataclass(frozen=True, slots=True)
class PurposeGate:
    """`commit` runs a command of the service's own and raises what refused it."""

    purposes: Purposes
    commit: Callable[[object], Awaitable[None]]

    def check(self, asker: Asker, name: str) -> Purpose:
        """The purpose that this caller names, or means by naming none. Raises FieldInvalid for an unknown one."""
        return self.purposes.named(name, is_partner=asker.is_partner and not asker.is_official)

    async def admit(self, asker: Asker, method: str, reads: Sequence[tuple[str, str]]) -> None:
        """Before the credit of (subject, purpose) each is read by `method`.

        Raises FieldInvalid for an unknown purpose, ConsentMissing for the first subject that has not allowed its own.
        Consents are looked at under the lock that revoking takes: once revoked, nothing is read any more. A purpose by
        contract writes nothing, and asks nobody.
        """
        by_purpose: dict[str, list[str]] = {}
        for subject, name in reads:
            purpose = self.check(asker, name)
            if purpose.basis is Basis.CONSENT:
                by_purpose.setdefault(purpose.name, []).append(subject)
        for name, subjects in by_purpose.items():
            await self.commit(ReadForPurpose(tuple(dict.fromkeys(subjects)), name, method, asker))
