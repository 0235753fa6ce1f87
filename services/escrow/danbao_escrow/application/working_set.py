"""The rows that a batch of escrow's commands works on."""

from __future__ import annotations

from uuid import UUID

from danbao_escrow.domain.case_model import Proceeding
from danbao_escrow.domain.checkout import Checkout
from danbao_escrow.domain.model import TimelineEntry, Trade
from danbao_escrow.domain.payment_events import ParkedEvent, PaymentMovement
from danbao_escrow.domain.step_model import Step
from danbao_kit.working_set import Log, Rows, WorkingSet

StepKey = tuple[UUID, int]
"""Trade and the step's number."""


class EscrowSet(WorkingSet):
    """Trades with their pending steps, open cases, disputes and claims; what happened to them."""

    def __init__(self) -> None:
        super().__init__()
        self.trades: Rows[UUID, Trade] = self.rows()
        self.steps: Rows[StepKey, Step] = self.rows()
        # By name: refundCases/{uuid}, disputes/{uuid}, claims/{uuid}.
        self.proceedings: Rows[str, Proceeding] = self.rows()
        # By name: checkouts/{uuid}.
        self.checkouts: Rows[str, Checkout] = self.rows()
        # How far payments' events are applied, under PAYMENTS.
        self.cursors: Rows[str, int] = self.rows()
        self.movements: Log[PaymentMovement] = self.log()
        self.parked: Log[ParkedEvent] = self.log()
        self.timeline: Log[TimelineEntry] = self.log()
        # Steps to be executed by this process once the batch is committed.
        self.taken: Log[Step] = self.log()
