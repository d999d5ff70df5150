"""The parts of the QLoRA trainer. torch and friends are imported late: every module loads in a bare
Python."""
