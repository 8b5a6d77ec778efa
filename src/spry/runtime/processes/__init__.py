"""A run's work dealt over several processes, on one machine or many: one leads, the others help."""
