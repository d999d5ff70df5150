"""Runs: the plan, the ledger, the engine that drives a playbook, and the receipt."""
