"""The parts of `benchmarks/wire.py`: the ground on which all is measured, the peers, and a module
for each row of its table."""
