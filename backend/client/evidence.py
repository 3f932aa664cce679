"""When components fire, over the corpus and on any text, and where a word is found."""

from __future__ import annotations

from collections.abc import Sequence

from backend.client.bodies import TextOrIds, source
from backend.client.connection import OnProgress
from backend.client.part import RunPart
from backend.evidence_schemas import DocumentPage, Evidence, ExampleKind, ExamplePage, FiringOrder, Firings
from backend.job_schemas import Job
from backend.search_schemas import SearchIndexInfo, SearchMode, SearchPage


class EvidenceOfRun(RunPart):
    """What the corpus and other texts say of components."""

    def evidence(self, key: str, *, k: int = 10, subrun: str | None = None) -> Evidence:
        """How often and how strongly it fires, on and before which tokens, and with which others."""
        return self._client.read(Evidence, f"{self._path}/components/{key}/evidence", k=k, subrun=subrun)

    def examples(
        self,
        key: str,
        kind: ExampleKind = "random",
        *,
        token: int | None = None,
        cursor: str | None = None,
        limit: int = 10,
        subrun: str | None = None,
    ) -> ExamplePage:
        """Places where it fires: drawn uniformly, or the strongest; ``next_cursor`` asks for the next page."""
        return self._client.read(
            ExamplePage,
            f"{self._path}/components/{key}/examples",
            kind=kind,
            token=token,
            cursor=cursor,
            limit=limit,
            subrun=subrun,
        )

    def document(
        self, number: int, *, start: int = 0, length: int = 512, key: str | None = None
    ) -> DocumentPage:
        """A part of a document of the corpus, with what the component ``key`` does at each token."""
        path = f"{self._path}/documents/{number}"
        return self._client.read(DocumentPage, path, start=start, length=length, key=key)

    def fire(
        self,
        text: TextOrIds,
        keys: Sequence[str] = (),
        *,
        k: int = 10,
        per_token: int = 3,
        order: FiringOrder = "sum",
    ) -> Firings:
        """What components do on any text: those asked for, and the ``k`` that fire most."""
        body = source(text) | {"keys": list(keys), "k": k, "per_token": per_token, "order": order}
        return self._client.send(Firings, "POST", f"{self._path}/firings", body)

    def search(
        self,
        q: str,
        *,
        mode: SearchMode = "words",
        case: bool = False,
        document: int | None = None,
        cursor: int = 0,
        limit: int = 50,
        left: int = 24,
        right: int = 24,
        progress: OnProgress | None = None,
    ) -> SearchPage:
        """Matches in the corpus, with the tokens around each; a small corpus is indexed on the way."""
        if self._client.read(SearchIndexInfo, f"{self._path}/search-index").state == "absent":
            self._client.wait(self._client.send(Job, "POST", f"{self._path}/search-index", {}), progress)
        return self._client.read(
            SearchPage,
            f"{self._path}/search",
            q=q,
            mode=mode,
            case=case,
            document=document,
            cursor=cursor,
            limit=limit,
            left=left,
            right=right,
        )
