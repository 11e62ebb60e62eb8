"""Composition root of the operator: flags, clients, manager, controllers, start. Nothing else."""
