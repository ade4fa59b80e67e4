"""The two published contracts over HTTP, and the pages around them.

One route table (`routes`) makes routing and OpenAPI alike. Hot routes are plain Starlette routes whose bodies are
read by `bodies` and validated by pydantic; errors leave in the shape of the contract that the path belongs to.
"""
