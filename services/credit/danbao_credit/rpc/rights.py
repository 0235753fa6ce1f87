"""SubjectRightsService: commands on the one write path, and reads of what is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from danbao.credit.v1 import rights_pb2, rights_pb2_grpc
from danbao_credit.application.appeals import may_see
from danbao_credit.application.consents import OfficialRead, ReadForPurpose
from danbao_credit.application.erasure import EraseSubject, SweepTraces
from danbao_credit.application.evaluate import seconds
from danbao_credit.application.export import Export, Record, export_of, judged_records
from danbao_credit.application.ports import CreditReader
from danbao_credit.application.purpose_gate import PurposeGate
from danbao_credit.application.rights_ports import AppealFilter, KeptRecords
from danbao_credit.domain.appeal import APPEALS
from danbao_credit.domain.asker import Asker
from danbao_credit.domain.consent import DATA_PORTABILITY, Purposes
from danbao_credit.domain.erasure import Traces
from danbao_credit.domain.evaluation import Judge
from danbao_credit.domain.marks import Mark
from danbao_credit.domain.rights_errors import AppealNotFound, SubjectNotFound
from danbao_credit.domain.tombstone import subject_key
from danbao_credit.rpc import rights_mapping as mapping
from danbao_credit.rpc.askers import asker_of
from danbao_kit.call import current_call
from danbao_kit.clock import Clock
from danbao_kit.commands import CommandRunner
from danbao_kit.paging import decode_token, encode_token, page_size


@dataclass(frozen=True, slots=True)
class RightsServicer(rights_pb2_grpc.SubjectRightsServiceServicer):
    """Serves the rights of those who are scored."""

    runner: CommandRunner
    purposes: Purposes
    gate: PurposeGate
    judge: Judge
    reader: CreditReader
    kept: KeptRecords
    clock: Clock
    # Sections of the export that other parts of credit keep.
    sections: Sequence[str] = ()
    erasure_secret: bytes = b""

    async def ListPurposes(self, request: rights_pb2.ListPurposesRequest, context: Any) -> Any:
        purposes = [mapping.purpose_message(self.purposes.by_name[name]) for name in sorted(self.purposes.by_name)]
        return rights_pb2.ListPurposesResponse(purposes=purposes, version=self.purposes.version)

    async def GrantConsent(self, request: rights_pb2.GrantConsentRequest, context: grpc.aio.ServicerContext) -> Any:
        command = mapping.grant_of(request, asker_of(current_call()), self.purposes)
        return await self.runner.run(context, "GrantConsent", request.request_id, command)

    async def RevokeConsent(self, request: rights_pb2.RevokeConsentRequest, context: grpc.aio.ServicerContext) -> Any:
        command = mapping.revoke_of(request, asker_of(current_call()))
        return await self.runner.run(context, "RevokeConsent", request.request_id, command)

    async def ListConsents(self, request: rights_pb2.ListConsentsRequest, context: Any) -> Any:
        asker, subject = asker_of(current_call()), request.subject
        sees_all = asker.sees_all or asker.is_subject(subject)
        if not (sees_all or asker.is_partner):
            raise SubjectNotFound(subject)
        partner = None if sees_all else asker.partner
        scope, size = f"consents {subject} {partner}", page_size(request.page_size)
        after = decode_token(scope, request.page_token) if request.page_token else ""
        found = await self.kept.consents(subject, after, size + 1, partner)
        more = encode_token(scope, str(found[size - 1].consent_id)) if len(found) > size else ""
        now = self.clock.now()
        return rights_pb2.ListConsentsResponse(
            consents=[mapping.consent_message(consent, now) for consent in found[:size]], next_page_token=more
        )

    async def FileAppeal(self, request: rights_pb2.FileAppealRequest, context: grpc.aio.ServicerContext) -> Any:
        reasons = await self._reason_codes(request.subject) if request.target.HasField("reason_code") else set()
        command = mapping.file_of(request, asker_of(current_call()), reasons)
        return await self.runner.run(context, "FileAppeal", request.request_id, command)

    async def WithdrawAppeal(self, request: rights_pb2.WithdrawAppealRequest, context: grpc.aio.ServicerContext) -> Any:
        command = mapping.withdraw_of(request, asker_of(current_call()))
        return await self.runner.run(context, "WithdrawAppeal", request.request_id, command)

    async def DecideAppeal(self, request: rights_pb2.DecideAppealRequest, context: grpc.aio.ServicerContext) -> Any:
        command = mapping.decide_of(request, asker_of(current_call()), self.judge.catalogue)
        return await self.runner.run(context, "DecideAppeal", request.request_id, command)

    async def GetAppeal(self, request: rights_pb2.GetAppealRequest, context: Any) -> Any:
        asker = asker_of(current_call())
        appeal = await self.kept.appeal(mapping.id_of(request.name, APPEALS))
        if appeal is None or not may_see(asker, appeal):
            raise AppealNotFound(request.name)
        return mapping.appeal_message(appeal, names_arbiter=asker.sees_all)

    async def ListAppeals(self, request: rights_pb2.ListAppealsRequest, context: Any) -> Any:
        asker = asker_of(current_call())
        wanted = _visible(asker, request)
        if wanted is None:
            return rights_pb2.ListAppealsResponse()
        scope, size = f"{APPEALS} {wanted}", page_size(request.page_size)
        after = decode_token(scope, request.page_token) if request.page_token else ""
        found = await self.kept.appeals(wanted, after, size + 1)
        more = encode_token(scope, str(found[size - 1].appeal_id)) if len(found) > size else ""
        return rights_pb2.ListAppealsResponse(
            appeals=[mapping.appeal_message(appeal, names_arbiter=asker.sees_all) for appeal in found[:size]],
            next_page_token=more,
        )

    async def ExportSubjectData(self, request: rights_pb2.ExportSubjectDataRequest, context: Any) -> Any:
        asker, subject = asker_of(current_call()), request.subject
        scope = f"export {subject}"
        place = decode_token(scope, request.page_token) if request.page_token else ""
        if asker.is_operator:
            await self.gate.commit(OfficialRead(subject, asker))
        elif not asker.is_subject(subject):
            if not asker.is_partner or asker.is_official:
                raise SubjectNotFound(subject)
            await self.gate.commit(ReadForPurpose((subject,), DATA_PORTABILITY, "ExportSubjectData", asker))
        export = self._export()
        page = await export.page(subject, place=place, size=page_size(request.page_size))
        message = rights_pb2.ExportSubjectDataResponse(
            subject=subject,
            records=[mapping.record_message(record) for record in page.records],
            sections=list(export.sections),
            next_page_token=encode_token(scope, page.next_place) if page.next_place else "",
        )
        message.as_of.FromDatetime(self.clock.now())
        return message

    async def EraseSubject(self, request: rights_pb2.EraseSubjectRequest, context: grpc.aio.ServicerContext) -> Any:
        call = current_call()
        asker, subject = asker_of(call), request.subject
        may = asker.is_operator or asker.is_subject(subject)
        traces = await self.kept.traces(subject) if may else Traces()
        subject_hash = subject_key(subject, self.erasure_secret).hex()
        reason = mapping.erasure_reason_of(request.reason)
        command = EraseSubject(subject, subject_hash, reason, asker, traces)
        # The record of this request outlives the subject, whose own name must not be in it; so does what is told of it.
        caller = f"erased:{subject_hash}" if asker.is_subject(subject) else call.request_caller
        reply = await self.runner.run(
            context, "EraseSubject", request.request_id, command, caller=caller, about=f"erased/{subject_hash}"
        )
        await self.gate.commit(SweepTraces(subject, traces))
        return reply

    async def _reason_codes(self, subject: str) -> set[str]:
        """What costs the subject points now, whatever it is looked at as; and what holds its score down."""
        snapshot = await self.reader.snapshot([subject])
        profile, as_of_s = snapshot.profile(subject), seconds(self.clock.now())
        codes: set[str] = set()
        for kind in self.judge.model.scorecards:
            standing = snapshot.standing(subject, as_of_s)
            evaluation = self.judge.evaluate(profile, kind=kind, as_of_s=as_of_s, standing=standing)
            codes |= {reason.code for reason in evaluation.reasons}
            codes |= {adjustment.code for adjustment in evaluation.adjustments}
        return codes

    def _export(self) -> Export:
        async def judged(subject: str) -> Sequence[Record]:
            snapshot = await self.reader.snapshot([subject])
            as_of_s = seconds(self.clock.now())
            return judged_records(self.judge, snapshot.profile(subject), snapshot.standing(subject, as_of_s), as_of_s)

        async def marks(subject: str) -> Sequence[Mark]:
            return (await self.reader.snapshot([subject])).marks_of(subject)

        return export_of(self.kept, judged, marks, self.clock.now, self.sections)


def _visible(asker: Asker, request: rights_pb2.ListAppealsRequest) -> AppealFilter | None:
    """Which of the appeals asked for the caller may see; None: none of them."""
    state = mapping.appeal_state_of(request.state)
    if asker.sees_all:
        return AppealFilter(subject=request.subject or None, state=state)
    if asker.is_partner:
        return AppealFilter(subject=request.subject or None, filed_by=f"partner:{asker.partner}", state=state)
    if not asker.subject or request.subject not in ("", asker.subject):
        return None
    return AppealFilter(subject=asker.subject, state=state)
