"""From a Python function to a program and its calls.

A call: `function` → `cache` (by `signature`) → `guards` → `compiled` → `instantiate`. A trace:
`trace` puts together `recorder`, `tracer`, `host` and `watch`; `outputs` makes its result, the
`templates`. `check` compares compiled and eager calls.
"""
