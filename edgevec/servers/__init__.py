"""Servers over a collection: HTTP (`edgevec serve`) and the Model Context Protocol (`edgevec mcp`).

`api` is what both offer: operations from JSON to JSON, checked against one description. `openapi` describes it,
`http_server` and `mcp_server` speak with clients, each with its library.
"""

from __future__ import annotations
