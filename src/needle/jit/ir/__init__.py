"""The graph: values, nodes, what they mean and what they cost."""
