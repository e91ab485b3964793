"""A small, fast stand-in for vLLM, for the tests and benchmarks of what talks to engines.

It speaks vLLM 0.32's HTTP: same routes, JSON shapes and stream framing. What it says is a function of the prompt,
and how it says it (late, slowly, wrongly, not at all) is set at run time by `POST /_fake/behaviour`.
`GET /_fake/requests` lists what it received. It is raw asyncio and not ASGI because it must be able to break HTTP.
"""
