"""The search that the page shows, as lines of Python to run elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from edgevec import Index

from .sources import Source


@dataclass(frozen=True)
class SearchRequest:
    """A search as the page asks it. row: the id whose neighbors are wanted, else None."""

    k: int
    ef: int
    topic: str = ""
    where: str = ""
    text: str = ""
    row: int | None = None

    @property
    def vector(self) -> str:
        """What was typed, where that is a vector."""
        text = self.text.strip()
        return text if self.row is None and text.startswith("[") else ""

    @property
    def results(self) -> int:
        """A row is the nearest of its own neighbors."""
        return self.k + (self.row is not None)


def as_python(source: Source, index: Index, request: SearchRequest) -> str:
    """A whole program that finds the same rows, but for those that a walk of the graph may miss."""
    parts = [["import numpy as np", "import edgevec"], _data(source)]
    if source.kind == "index":
        vectors, ids = "index.get(ids)", "ids"
    else:
        vectors, ids = "data.vectors", "ids"
    settings = f"{index.dim}, {index.metric!r}, quantization={index.quantization!r}"
    if request.where.strip():  # what collections know
        parts += [
            [f"fields = {_fields(source)}"],
            [f'rows = edgevec.open(":memory:", {settings})', f"rows.upsert({ids}, {vectors}, fields)"],
            [
                f"query = {_query(request, 'rows.get([%d])[0].vector')}",
                f"found = rows.search(query, k={request.results}, ef={request.ef}, where={_where(source, request)!r})",
                "for hit in found:",
                '    print(f"{hit.distance:.3f}  {hit.metadata}")',
            ],
        ]
    else:
        only = ", filter=allowed" if request.topic else ""
        if source.kind != "index":
            parts.append([f"index = edgevec.Index({settings})", f"index.add({vectors}, {ids})"])
        if request.topic:
            parts.append([f"allowed = ids[np.array({_topics(source)}) == {request.topic!r}]"])
        shown = "{data.texts[id]}" if source.kind == "sample" else "{id}"
        parts.append(
            [
                f"query = {_query(request, 'index.get([%d])[0]')}",
                f"found = index.search(query, k={request.results}, ef={request.ef}{only})",
                "for id, distance in zip(found.ids.tolist(), found.distances.tolist()):",
                f'    print(f"{{distance:.3f}}  {shown}")',
            ]
        )
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _data(source: Source) -> list[str]:
    if source.kind == "index":
        return [f"index = edgevec.Index.load({source.name!r})", "ids = np.array(list(index))"]
    read = "edgevec.samples.wordnet()" if source.kind == "sample" else f"edgevec.read_vectors({source.name!r})"
    return [f"data = {read}", "ids = np.arange(len(data))" if source.numbered else "ids = data.ids"]


def _fields(source: Source) -> str:
    """What a condition may name, of every row."""
    if source.kind == "sample":
        row = '{"topic": topic, "text": text, "id": id}'
        return f"[\n    {row}\n    for topic, text, id in zip(data.topics, data.texts, ids.tolist())\n]"
    if source.metadata is None:
        return '[{"id": id} for id in ids.tolist()]'
    return '[{**fields, "id": id} for fields, id in zip(data.metadata, ids.tolist())]'


def _topics(source: Source) -> str:
    if source.kind == "sample":
        return "data.topics"
    return f'[str(fields.get({source.topic_field!r}, "")) for fields in data.metadata]'


def _where(source: Source, request: SearchRequest) -> str:
    where = request.where.strip()
    if not request.topic:
        return where
    topic = request.topic.replace("'", "''")
    return f"({where}) AND {source.topic_field} = '{topic}'"


def _query(request: SearchRequest, of_row: str) -> str:
    if request.row is not None:
        return of_row % request.row
    return f"np.array({request.vector}, np.float32)" if request.vector else f"data.encode({request.text!r})"
