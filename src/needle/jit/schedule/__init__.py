"""Which nodes run as one kernel, how they walk memory, and where values lie."""
