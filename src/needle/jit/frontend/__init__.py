"""From a Python function to a program and its calls: tracing, guards, signatures."""
