"""How every replica comes to score by the champion: it looks at the store again and again and takes what changed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from danbao_credit.application.model_commands import RegisterShipped
from danbao_credit.domain.errors import DefinitionInvalid, ModelVersionExists
from danbao_credit.domain.evaluation import Judge
from danbao_credit.domain.models import ModelState, ModelVersion
from danbao_kit.group_commit import GroupCommit, Submission
from danbao_kit.log import log

LOOK_AGAIN_S = 0.5

# Makes a judge of an artefact; raises DefinitionInvalid.
JudgeOf = Callable[[Mapping[str, Any]], Judge]


class ModelReader(Protocol):
    """Reads of the store. Raise StoreUnavailable."""

    async def in_use(self) -> dict[ModelState, tuple[str, str]]: ...

    async def find(self, version: str) -> ModelVersion | None: ...


class ModelWatcher:
    """Keeps `judge` scoring by the champion, and `challenger` at hand.

    `on_champion` hears that the first champion is known, and of each that is taken after it.
    """

    def __init__(
        self,
        judge: Judge,
        shipped: RegisterShipped,
        judge_of: JudgeOf,
        reader: ModelReader,
        group_commit: GroupCommit,
        *,
        on_champion: Callable[[], None],
    ) -> None:
        self._judge = judge
        self._shipped = shipped
        self._judge_of = judge_of
        self._reader = reader
        self._group_commit = group_commit
        self._registered = False
        self._on_champion = on_champion
        self._champion_known = False
        # Said once each: a version that this release cannot load.
        self._refused: set[str] = set()
        self.challenger: Judge | None = None

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_AGAIN_S)

    async def look(self) -> None:
        """Once: makes the shipped model known, then takes over champion and challenger. Raises StoreUnavailable.

        A version's content never changes: where the store has another under the shipped one's version, that one counts.
        """
        if not self._registered:
            outcome = await self._group_commit.submit(Submission(self._shipped))
            if outcome.error is not None:
                log.error("shipped_model_not_known", version=self._shipped.version, detail=str(outcome.error)[:200])
                if not isinstance(outcome.error, ModelVersionExists):
                    raise outcome.error
            self._registered = True
        in_use = await self._reader.in_use()
        await self._take_champion(*in_use.get(ModelState.CHAMPION, ("", "")))
        await self._take_challenger(*in_use.get(ModelState.CHALLENGER, ("", "")))

    async def _take_champion(self, version: str, sha256: str) -> None:
        model = self._judge.model
        if not version:
            return
        if (model.version, model.sha256) == (version, sha256):
            if not self._champion_known:
                self._champion_known = True
                self._on_champion()
            return
        found = await self._loaded(version)
        if found is not None:
            log.info("model_taken", version=version, former=model.version)
            self._judge.take(found.model, found.texts)
            self._champion_known = True
            self._on_champion()

    async def _take_challenger(self, version: str, sha256: str) -> None:
        known = self.challenger
        if not version:
            self.challenger = None
        elif known is None or (known.model.version, known.model.sha256) != (version, sha256):
            self.challenger = await self._loaded(version)

    async def _loaded(self, version: str) -> Judge | None:
        """The version as this release reads it; None if it cannot, and whoever scores so far goes on."""
        if version in self._refused:
            return None
        found = await self._reader.find(version)
        if found is None:
            return None
        try:
            return self._judge_of(json.loads(found.artefact))
        except DefinitionInvalid as error:
            self._refused.add(version)
            log.error(
                "model_not_loaded", version=version, scoring_by=self._judge.model.version, detail=str(error)[:300]
            )
            return None
