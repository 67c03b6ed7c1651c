"""The card workload's own code: its simulator, its model, and the published protocol."""
