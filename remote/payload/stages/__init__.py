"""One module a stage: `python -m remote.payload.stages.NAME JOB_FOLDER`. Heavy imports happen
inside `main`."""
